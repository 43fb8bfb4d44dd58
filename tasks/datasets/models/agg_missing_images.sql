-- One row: a way in which catalogue and images do not meet, and its reason, with how often it occurs.
--   missing_image, ambiguous_image: products without an image, by reason
--   orphan_image:   images that no catalogue row names, by what became of them
--   rejected_image: images that were refused, by rule
SELECT
    outcome AS kind,
    missing_reason AS reason,
    count(*) AS occurrences
FROM products
WHERE outcome IN ('missing_image', 'ambiguous_image')
GROUP BY outcome, missing_reason
UNION ALL
SELECT
    'orphan_image' AS kind,
    outcome AS reason,
    count(*) AS occurrences
FROM images
WHERE orphan
GROUP BY outcome
UNION ALL
SELECT
    'rejected_image' AS kind,
    rule AS reason,
    count(*) AS occurrences
FROM images
WHERE outcome = 'rejected'
GROUP BY rule
