-- One row: a group of images that look the same, by the key of its canonical image. An image that stands under
-- several names counts once; images counts the canonical one, too.
SELECT
    near_duplicate_of AS canonical_key,
    count(*) + 1 AS images,
    array_agg(key ORDER BY key NULLS FIRST) AS members
FROM images
WHERE outcome = 'loaded' AND near_duplicate_of IS NOT NULL
GROUP BY near_duplicate_of
