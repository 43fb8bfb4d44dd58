-- One row: a category, with its number of products, and of those that have an image.
SELECT
    c.master_category,
    c.sub_category,
    c.article_type,
    count(*) AS products,
    count_if(f.has_image) AS with_image
FROM fact_product AS f
INNER JOIN dim_category AS c ON f.category_key = c.category_key
GROUP BY c.master_category, c.sub_category, c.article_type
