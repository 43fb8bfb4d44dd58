-- One row: an issue, with the number of images that have it and their share of all images that were looked at.
-- An image that stands under several names counts once.
WITH looked_at AS (
    SELECT *
    FROM images
    WHERE outcome = 'loaded'
),

flags AS (
    SELECT 'dark' AS issue, is_dark_issue AS is_issue FROM looked_at
    UNION ALL
    SELECT 'light' AS issue, is_light_issue AS is_issue FROM looked_at
    UNION ALL
    SELECT 'blurry' AS issue, is_blurry_issue AS is_issue FROM looked_at
    UNION ALL
    SELECT 'low_information' AS issue, is_low_information_issue AS is_issue FROM looked_at
    UNION ALL
    SELECT 'odd_aspect_ratio' AS issue, is_odd_aspect_ratio_issue AS is_issue FROM looked_at
    UNION ALL
    SELECT 'odd_size' AS issue, is_odd_size_issue AS is_issue FROM looked_at
    UNION ALL
    SELECT 'grayscale' AS issue, is_grayscale_issue AS is_issue FROM looked_at
    UNION ALL
    SELECT 'damaged' AS issue, is_damaged_issue AS is_issue FROM looked_at
)

SELECT
    issue,
    count(CASE WHEN is_issue THEN 1 END) AS images,
    avg(cast(is_issue AS bigint)) AS share
FROM flags
WHERE is_issue IS NOT NULL
GROUP BY issue
