-- One row: a size in pixels as displayed, with the number of images that have it, and their bytes. An image that
-- stands under several names counts once.
SELECT
    original_width,
    original_height,
    count(*) AS images,
    cast(min(bytes) AS bigint) AS least_bytes,
    cast(max(bytes) AS bigint) AS most_bytes,
    cast(sum(bytes) AS bigint) AS total_bytes
FROM images
WHERE outcome = 'loaded'
GROUP BY original_width, original_height
