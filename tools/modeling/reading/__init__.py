"""Reading tables as people have them, without guessing: a file is read right, or refused in a sentence that helps.

Holds: the settings of `data.read` (`settings`), bytes to text (`text`), text to records (`records`), records to typed
columns (`kinds`), numbers written for people (`numbers`), dates (`date_parts`, `dates`), CSV and Parquet as tables
(`table`, `parquet`), several files read by one decision per column (`understand`) and compared (`compare`), and a table
in words (`describe`).

Must not: know a goal, a call context or an integration; judge the data (that is the checks'); write anything but the
Parquet file that `table` is asked for.
"""
