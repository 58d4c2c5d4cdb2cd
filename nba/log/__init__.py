"""The decision log: the record of truth, in segment files of framed, checksummed records."""

from nba.log.reader import LogReport, read_records
from nba.log.writer import LogWriter

__all__ = ["LogReport", "LogWriter", "read_records"]
