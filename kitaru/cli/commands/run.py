"""`kitaru run`: run a flow in this process."""

from __future__ import annotations

import click

from kitaru.cli import options
from kitaru.cli.output import Output
from kitaru.cli.values import pairs as pairs_of
from kitaru.cli.values import parse_inputs
from kitaru.config import setting
from kitaru.ops.flow_ref import locate


@click.command(short_help="Run a flow here, durably.", epilog=options.FLOW_HELP)
@options.flow
@options.inputs
@click.option(
    "--no-input", is_flag=True, help="Do not prompt: end at a wait, and print how to answer."
)
@click.option("--no-cache", is_flag=True, help="Run every checkpoint; reuse no cached results.")
@click.option(
    "--retries", type=click.IntRange(min=0), metavar="N",
    help="Default number of retries for checkpoints that set none.",
)  # fmt: skip
@options.key
@click.option(
    "--open", "opens", is_flag=True,
    help="Open the execution's page in a browser, and print its link. Needs the extra server.",
)  # fmt: skip
@options.tags
@options.store
@options.as_json
@options.pass_output
def run(
    output: Output, flow: str, pairs: tuple[str, ...], inputs_from: str | None, no_input: bool,
    no_cache: bool, retries: int | None, key: str | None, opens: bool, tags: tuple[str, ...],
    store: str | None,
) -> int:  # fmt: skip
    """Run a flow in this process. Each checkpoint is recorded as it completes.

    On a terminal, the questions of waits are prompted for. Otherwise the command ends at a wait
    with exit code 0, and the answer resumes the execution. To resume a killed run, use
    `kitaru executions resume`.

    With --key, the same command starts one execution. Repeated, it resumes the execution, or shows
    its result.

    With --open, the page is that of a `kitaru serve` on port 8088 with the same store. Without one,
    this command serves the page. On a terminal, it then waits for a key before it ends.
    """
    from kitaru.cli.follow import attend
    from kitaru.client import KitaruClient
    from kitaru.ops.run import load_flow, text_inputs
    from kitaru.ops.run import run as start

    if opens:
        # Before the flow starts: it raises an error without the extra.
        from kitaru.cli.browser import open_page
    location = locate(flow)
    url = setting("store", argument=store).value
    loaded = load_flow(location)
    given = parse_inputs(pairs, inputs_from, texts=text_inputs(loaded))
    cache = False if no_cache else None
    named = pairs_of(tags, "--tag")
    handle = start(loaded, given, store=url, key=key, cache=cache, retries=retries, tags=named)
    asking = output.interactive and not no_input
    client = KitaruClient(url)
    if not opens:
        return attend(handle, client, output, asking=asking, store=store)
    with open_page(client.store, handle.exec_id, output):
        return attend(handle, client, output, asking=asking, store=store)
