"""Addresses: any text is a name, every channel has a path of its own, and no path is too long."""

from hypothesis import given
from hypothesis import strategies as st

from openstack_zeromq.address import IPC_DIR_BYTES, NAME_BYTES, SOCKET_PATH_BYTES, Channel, Role, compact, socket_path

TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
CHANNELS = st.builds(Channel, st.sampled_from(Role), TEXT.map(compact), TEXT.map(compact), TEXT.map(compact))


@given(TEXT)
def test_a_compact_name_fits_the_wire_and_stays_what_it_is(name: str) -> None:
    short = compact(name)
    assert len(short.encode()) <= NAME_BYTES
    assert compact(short) == short
    data = name.encode("utf-8", "surrogatepass")
    if len(data) <= NAME_BYTES and data.decode("utf-8", "ignore") == name:
        assert short == name


def test_long_names_that_begin_alike_stay_apart() -> None:
    assert len({compact("x" * 100 + str(number)) for number in range(1000)}) == 1000


@given(CHANNELS, st.integers(1, IPC_DIR_BYTES))
def test_a_socket_path_fits_and_stays_in_its_directory(channel: Channel, length: int) -> None:
    directory = "/" + "d" * (length - 1)
    path = socket_path(directory, channel)
    name = path.removeprefix(directory + "/")
    assert len(path.encode()) <= SOCKET_PATH_BYTES
    assert "/" not in name
    assert name.isascii()
    assert name.isprintable()
    assert name not in ("receiver", "receiver.admin", "receiver.lock")


@given(st.lists(CHANNELS, unique=True), st.integers(1, IPC_DIR_BYTES))
def test_two_channels_never_share_a_path(channels: list[Channel], length: int) -> None:
    directory = "/" + "d" * (length - 1)
    assert len({socket_path(directory, channel) for channel in channels}) == len(channels)
