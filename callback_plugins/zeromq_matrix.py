"""Draw the matrix below the recap: who reached whom, out of the reports that playbooks/verify.yml hands over.

A thin shell over openstack_zeromq.cli.matrix. Where the package is not installed on the control node, a line says so.
"""

from __future__ import annotations

from ansible.plugins.callback import CallbackBase
from ansible.utils.color import ANSIBLE_COLOR

DOCUMENTATION = r"""
name: zeromq_matrix
type: aggregate
short_description: Draw who reached whom, in how many milliseconds
description:
  - Draws the reports in the custom statistic C(zeromq_reports), after the recap. Silent without them.
author: openstack-zeromq maintainers
requirements:
  - openstack-zeromq in Ansible's own Python, as C(make demo) arranges it
"""


class CallbackModule(CallbackBase):
    """Waits for the end of the playbook."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "zeromq_matrix"

    def v2_playbook_on_stats(self, stats: object) -> None:
        reports = stats.custom.get("_run", {}).get("zeromq_reports")
        if not reports:
            return
        try:
            from openstack_zeromq.cli import matrix  # noqa: PLC0415 - Ansible must start without it
        except ImportError as fault:
            self._display.warning(f"no matrix: {fault}; pip install openstack-zeromq beside ansible-core")
            return
        width = max(self._display.columns, 80)
        self._display.display(matrix.text(matrix.load(reports), colour=ANSIBLE_COLOR, width=width))
