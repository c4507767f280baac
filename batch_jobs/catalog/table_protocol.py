"""What the driver and the process that reads tables say to each other: one JSON object a line, and bytes of the file.

    driver → process   {"kind": "parquet", "bytes": 81920}
    process → driver   {"read": [81912, 8]}                             answered with these bytes, as they are
    process → driver   {"columns": ["prompt", "seed"]}
    driver → process   {"take": [[0, "typed"], [1, "list"]]}            which columns, and how they are read
    process → driver   {"rows": 2, "cells": [["a", "b"], [7, null]]}    column by column; [value, why] for a bad cell
    process → driver   {"rows": 9, "lost": "row group 2 of 3 is damaged: …"}
    process → driver   {"end": true}

or, at any time, {"unusable": "why"}. JSON, because its reader is small and was written to be given anything.
"""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["parquet", "arrow"]
#: How a column is read: as text and numbers; also moments, as text; or also lists, as text that is JSON.
Reading = Literal["typed", "text", "list"]

#: What the process may map beyond its libraries. Most writers make pages of 1 MB, DuckDB one for 122,880 rows.
MAX_MEMORY_BYTES: Final = 512 * 1024 * 1024
#: For a batch of rows, of a core and by the clock. A thousand rows take some milliseconds.
MAX_PART_S: Final = 60
#: A row of all columns, each as long as it may be and of characters that JSON writes as six.
MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
#: Of the file, in one answer.
MAX_READ_BYTES: Final = 4 * 1024 * 1024
#: Writers make groups of 100,000 to a million rows. Each row of a damaged group is reported, so this bounds what a
#: forged count can make of it.
MAX_GROUP_ROWS: Final = 10_000_000
