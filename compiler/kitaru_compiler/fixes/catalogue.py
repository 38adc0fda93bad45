"""The fix function of each rule."""

from __future__ import annotations

from kitaru_compiler.fixes import agents, calls, control, values
from kitaru_compiler.fixes.module import Fixer

FIXES: dict[str, Fixer] = {
    "KIT109": values.hidden_characters,
    "KIT110": control.comment_without_effect,
    "KIT202": values.record_read,
    "KIT203": values.record_read,
    "KIT205": values.record_read,
    "KIT206": values.default_made_in_the_body,
    "KIT208": values.sort_set,
    "KIT209": values.compare_values,
    "KIT210": values.value_that_crosses,
    "KIT211": values.copy_returned,
    "KIT213": values.process_state_at_import,
    "KIT314": control.map_of_comprehension,
    "KIT321": control.assert_a_variable,
    "KIT330": control.without_unreachable_code,
    "KIT404": calls.read_future,
    "KIT405": calls.call_without_loop,
    "KIT411": calls.name_that_was_meant,
    "KIT412": calls.name_that_was_meant,
    "KIT413": calls.literal_of_the_type,
    "KIT414": calls.no_polling,
    "KIT415": calls.await_instead,
    "KIT416": calls.await_instead,
    "KIT507": control.start_under_main,
    "KIT603": calls.name_that_fits,
    "KIT604": calls.another_id,
    "KIT605": calls.name_that_fits,
    "KIT701": agents.with_adapter,
    "KIT704": agents.named_after_variable,
    "KIT707": agents.named_after_variable,
    "KIT708": agents.awaited_run,
}
