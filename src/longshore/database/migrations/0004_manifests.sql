-- What each result is, word for word as it stands beside the file.

alter table longshore.runs add column manifest text;
