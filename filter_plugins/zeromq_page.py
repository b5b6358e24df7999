"""The filter that makes a page for browsers of a verification's reports. A thin shell over openstack_zeromq.cli.page.

Where the package is not installed beside Ansible, a warning says so, and the page is empty: a verification is worth more.
"""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display


def zeromq_page(reports: object) -> str:
    """Reports of all nodes -> HTML.

    :raises AnsibleFilterError: they are no reports.
    """
    try:
        from openstack_zeromq.cli import matrix, page  # noqa: PLC0415 - Ansible must start without it
        from openstack_zeromq.cli.report import ReportError  # noqa: PLC0415
    except ImportError as fault:
        Display().warning(f"no page: {fault}; pip install openstack-zeromq beside ansible-core")
        return ""
    try:
        return page.page(matrix.load(reports))
    except ReportError as fault:
        raise AnsibleFilterError(f"zeromq_page: {fault}") from None


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, object]:
        return {"zeromq_page": zeromq_page}
