-- One row: whom products are made for. What the catalogue leaves open is 'Unknown'.
WITH genders AS (
    SELECT DISTINCT
        dataset,
        coalesce(cast(gender AS varchar), 'Unknown') AS gender
    FROM products
    WHERE outcome <> 'duplicate'
)

SELECT
    md5(dataset || chr(31) || gender) AS gender_key,
    gender
FROM genders
