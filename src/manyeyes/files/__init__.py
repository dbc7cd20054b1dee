"""Files and folders that appear whole or not at all: everything that is written goes through here.

write_text, write_bytes, write_json   one file
written_file                          one file, by a library that wants a path
written_folder                        a folder, or a set of files in a folder
marked_folder                         a folder that is made again later; it carries our mark
remove_folder                         the opposite: gone as a whole
held                                  a folder that one process at a time may work in
"""

from manyeyes.files.locks import held, wait_until_free
from manyeyes.files.marks import (
    MARK,
    check_mark,
    check_outputs,
    check_rows,
    marked_folder,
    refuse_unless_empty,
)
from manyeyes.files.refusals import UNFINISHED, naming
from manyeyes.files.replacing import (
    file_sha256,
    remove_folder,
    remove_unfinished,
    scratch_folder,
    sync_folder,
    write_bytes,
    write_json,
    write_text,
    written_file,
    written_folder,
)

__all__ = [
    "MARK",
    "UNFINISHED",
    "check_mark",
    "check_outputs",
    "check_rows",
    "file_sha256",
    "held",
    "marked_folder",
    "naming",
    "refuse_unless_empty",
    "remove_folder",
    "remove_unfinished",
    "scratch_folder",
    "sync_folder",
    "wait_until_free",
    "write_bytes",
    "write_json",
    "write_text",
    "written_file",
    "written_folder",
]
