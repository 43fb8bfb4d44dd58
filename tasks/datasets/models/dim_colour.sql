-- One row: a colour of products, as the catalogue names it. What the catalogue leaves open is 'Unknown'.
WITH colours AS (
    SELECT DISTINCT
        dataset,
        coalesce(cast(baseColour AS varchar), 'Unknown') AS base_colour
    FROM products
    WHERE outcome <> 'duplicate'
)

SELECT
    md5(dataset || chr(31) || base_colour) AS colour_key,
    base_colour
FROM colours
