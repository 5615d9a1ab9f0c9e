"""What a token file says of itself in its last bytes: enough to put files in order without reading a token.

A footer cannot be verified by itself. Whoever reads the file later has its sha256, and compares.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from datasets.errors import TokenError
from datasets.files import Files
from datasets.token_file import TokenFile, TokenMeta, read_meta

__all__ = ["TokenHead", "read_token_head"]

_TAIL_BYTES = 1 << 15  # most footers are shorter: one request
_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class TokenHead:
    """A token file without its tokens."""

    path: str
    meta: TokenMeta
    split: str
    view: str
    num_records: int
    first_key: str

    def describes(self, file: TokenFile) -> bool:
        """Whether this is the head of a file that was read since."""
        theirs = (file.meta, file.split, file.view, len(file.keys), file.keys[0])
        return (self.meta, self.split, self.view, self.num_records, self.first_key) == theirs


def read_token_head(files: Files, path: str, num_bytes: int) -> TokenHead:
    """Read the end of a token file of `num_bytes`.

    Raises:
        TokenError: it is damaged, or no token file of this format.
    """
    about = _footer(files, path, num_bytes)
    meta = read_meta(about.metadata or {}, path)
    if not about.num_rows:
        raise TokenError(f"the token file {path} has no rows")
    group = about.row_group(0)  # keys ascend, split and view are the same in every row
    columns = {group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)}
    least = [column.min for name in ("split", "view", "key") if (column := columns.get(name)) and column.has_min_max]
    if len(least) < 3:
        raise TokenError(f"the token file {path} has no statistics of its keys, splits and views: encode again")
    split, view, key = map(str, least)
    return TokenHead(path, meta, split, view, about.num_rows, key)


def _footer(files: Files, path: str, num_bytes: int) -> pq.FileMetaData:
    tail = files.read_range(path, max(0, num_bytes - _TAIL_BYTES), num_bytes)
    needed = int.from_bytes(tail[-8:-4], "little") + 8  # the footer, its length, the magic number
    if tail[-4:] != _MAGIC or needed > num_bytes:
        raise TokenError(f"the token file {path} is damaged: it does not end as Parquet does")
    if needed > len(tail):
        tail = files.read_range(path, num_bytes - needed, num_bytes)
    try:
        return pq.read_metadata(pa.BufferReader(_MAGIC + tail[-needed:]))
    except (pa.ArrowException, OSError) as error:
        raise TokenError(f"the token file {path} is damaged: {' '.join(str(error).split())}") from None
