"""The process that imports a harness and forks: see `processes`."""

import sys

from kitaru.testing.adapters.processes import serve

serve(sys.argv[1])
