"""The tests. What they run in this process keeps away from the user's own Prefect."""

import atexit
import os
import shutil
import tempfile

_prefect_home = tempfile.mkdtemp(prefix="lookbook-tests-prefect-")
atexit.register(shutil.rmtree, _prefect_home, ignore_errors=True)
os.environ |= {"PREFECT_HOME": _prefect_home, "DO_NOT_TRACK": "1"}
for _name in ("PREFECT_API_URL", "PREFECT_PROFILE", "LOOKBOOK_HOME"):
    os.environ.pop(_name, None)
