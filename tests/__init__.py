"""The tests. What they run in this process keeps away from the user's own Prefect."""

import atexit
import os
import shutil
import tempfile

_PREFIX = "lookbook-tests-prefect-"

if _PREFIX not in os.environ.get("PREFECT_HOME", ""):  # a process that a test started has the home of that test's
    _prefect_home = tempfile.mkdtemp(prefix=_PREFIX)
    atexit.register(shutil.rmtree, _prefect_home, ignore_errors=True)
    os.environ |= {"PREFECT_HOME": _prefect_home, "DO_NOT_TRACK": "1"}
    for _name in ("PREFECT_API_URL", "PREFECT_PROFILE", "LOOKBOOK_HOME"):
        os.environ.pop(_name, None)
