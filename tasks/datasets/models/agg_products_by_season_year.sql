-- One row: a season of a year, with its number of products, and of those that have an image.
SELECT
    s.season,
    s.year,
    count(*) AS products,
    count_if(f.has_image) AS with_image
FROM fact_product AS f
INNER JOIN dim_season AS s ON f.season_key = s.season_key
GROUP BY s.season, s.year
