"""A second interpreter in one process, as mod_wsgi makes one for each application, is told which setting works."""

import subprocess
import sys

SECOND = "import sys; sys.path = {path!r}; import openstack_zeromq.driver.plugin"
PROGRAM = f"""
import sys
try:
    import _interpreters as interpreters
    run = interpreters.exec
except ImportError:  # before Python 3.13
    import _xxsubinterpreters as interpreters
    run = interpreters.run_string
import openstack_zeromq.driver.plugin
failed = run(interpreters.create(), {SECOND!r}.format(path=sys.path))
if failed is not None:
    sys.exit(str(failed))
"""


def test_the_driver_in_a_second_interpreter_names_the_setting_of_mod_wsgi() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "set `WSGIApplicationGroup %{GLOBAL}`" in done.stderr
