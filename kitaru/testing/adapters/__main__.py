"""The process that imports a harness and forks, and the command that keeps records.

python -m kitaru.testing.adapters MODULE:CLASS            see `processes`
python -m kitaru.testing.adapters MODULE:CLASS FILE.json  see `Harness.records`
"""

import sys
from pathlib import Path

if len(sys.argv) == 2:
    from kitaru.testing.adapters.processes import serve

    serve(sys.argv[1])
else:
    from kitaru.testing.adapters.kept import keep

    keep(sys.argv[1], Path(sys.argv[2]))
