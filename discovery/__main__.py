"""`python -m discovery` is the command `ecs-discovery`."""

import sys

from discovery.cli.main import main

sys.exit(main())
