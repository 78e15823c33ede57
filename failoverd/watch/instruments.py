"""What a watcher counts with, put together: by the daemon for its own, and by `watchd`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from failoverd import conf
from failoverd.watch import filters, watcher
from failoverd.watch.counter import HEADER_BYTES, Counter, Tap
from failoverd.watch.dumpfile import DumpFile


def instruments(
    settings: conf.Conf, interface: str, expression: str, programs: Sequence[filters.Program] = ()
) -> watcher.Instruments:
    """What a watcher of this interface counts with. Opens $dumpfile: raises OSError."""
    counter = Counter(interface, expression, programs)
    if settings.dumpfile == os.devnull:
        return watcher.Instruments(counter)
    try:
        dump = DumpFile(f"{settings.dumpfile}.{interface}", HEADER_BYTES)
    except OSError as error:
        raise OSError(f"$dumpfile: {error.filename}: {error.strerror}") from error
    return watcher.Instruments(counter, Tap(interface, expression, programs), dump)
