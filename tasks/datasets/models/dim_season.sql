-- One row: a season of a year. An unknown season is 'Unknown', an unknown year null.
WITH seasons AS (
    SELECT DISTINCT
        dataset,
        coalesce(cast(season AS varchar), 'Unknown') AS season,
        try_cast(year AS bigint) AS year
    FROM products
    WHERE outcome <> 'duplicate'
)

SELECT
    md5(dataset || chr(31) || season || chr(31) || coalesce(cast(year AS varchar), 'Unknown')) AS season_key,
    season,
    year
FROM seasons
