-- Trials and publications under one set of names. Dates come in three ways; a blank title or id is none.
WITH titles AS (
    SELECT id, scientific_title AS title, date, journal, _input, _line FROM trials
    UNION ALL BY NAME
    SELECT id, title, date, journal, _input, _line FROM papers
    UNION ALL BY NAME
    SELECT CAST(id AS VARCHAR) AS id, title, date, journal, _input, _line FROM more_papers
)
SELECT
    nullif(trim(id), '') AS id,
    nullif(trim(replace(title, chr(160), ' ')), '') AS title,
    CAST(try_strptime(date, ['%d/%m/%Y', '%Y-%m-%d', '%d %B %Y']) AS DATE) AS date,
    nullif(trim(journal), '') AS journal,
    _input,
    _line
FROM titles
