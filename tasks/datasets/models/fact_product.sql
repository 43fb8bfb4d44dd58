-- One row: a product of the catalogue (rows that repeat one are left out), with the measures of its image.
-- Sizes are pixels as displayed; brightness and contrast go from 0 to 1; all measures are null without an image.
SELECT
    p.product_key,
    try_cast(p.id AS bigint) AS id,
    cast(p.productDisplayName AS varchar) AS display_name,
    c.category_key,
    l.colour_key,
    s.season_key,
    g.gender_key,
    u.usage_key,
    p.outcome = 'matched' AS has_image,
    p.missing_reason,
    i.key AS image_key,
    i.sha256,
    i.outcome = 'duplicate' AS shares_image,
    i.bytes AS image_bytes,
    i.original_width,
    i.original_height,
    i.format,
    i.mode,
    i.brightness,
    i.contrast,
    i.sharpness,
    i.mean_red,
    i.mean_green,
    i.mean_blue,
    i.dominant_colour
FROM products AS p
LEFT JOIN images AS i
    ON p.image_key = i.key AND p.outcome = 'matched'
LEFT JOIN dim_category AS c
    ON coalesce(cast(p.masterCategory AS varchar), 'Unknown') = c.master_category
    AND coalesce(cast(p.subCategory AS varchar), 'Unknown') = c.sub_category
    AND coalesce(cast(p.articleType AS varchar), 'Unknown') = c.article_type
LEFT JOIN dim_colour AS l
    ON coalesce(cast(p.baseColour AS varchar), 'Unknown') = l.base_colour
LEFT JOIN dim_season AS s
    ON coalesce(cast(p.season AS varchar), 'Unknown') = s.season
    AND try_cast(p.year AS bigint) IS NOT DISTINCT FROM s.year
LEFT JOIN dim_gender AS g
    ON coalesce(cast(p.gender AS varchar), 'Unknown') = g.gender
LEFT JOIN dim_usage AS u
    ON coalesce(cast(p.usage AS varchar), 'Unknown') = u.usage
WHERE p.outcome <> 'duplicate'
