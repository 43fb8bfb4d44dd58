-- One row: an occasion that products are made for. What the catalogue leaves open is 'Unknown'.
WITH usages AS (
    SELECT DISTINCT
        dataset,
        coalesce(cast(usage AS varchar), 'Unknown') AS usage
    FROM products
    WHERE outcome <> 'duplicate'
)

SELECT
    md5(dataset || chr(31) || usage) AS usage_key,
    usage
FROM usages
