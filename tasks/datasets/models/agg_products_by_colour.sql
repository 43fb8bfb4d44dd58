-- One row: a colour, with its number of products, and of those that have an image.
SELECT
    l.base_colour,
    count(*) AS products,
    count_if(f.has_image) AS with_image
FROM fact_product AS f
INNER JOIN dim_colour AS l ON f.colour_key = l.colour_key
GROUP BY l.base_colour
