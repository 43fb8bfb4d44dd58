-- One row: a category of products, down to the type of article. What the catalogue leaves open is 'Unknown'.
WITH categories AS (
    SELECT DISTINCT
        dataset,
        coalesce(cast(masterCategory AS varchar), 'Unknown') AS master_category,
        coalesce(cast(subCategory AS varchar), 'Unknown') AS sub_category,
        coalesce(cast(articleType AS varchar), 'Unknown') AS article_type
    FROM products
    WHERE outcome <> 'duplicate'
)

SELECT
    md5(dataset || chr(31) || master_category || chr(31) || sub_category || chr(31) || article_type) AS category_key,
    master_category,
    sub_category,
    article_type
FROM categories
