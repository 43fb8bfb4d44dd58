-- One row: a measure and a range of its values (from bin_from up to, but not including, bin_to; null: no bound),
-- with the number of images in it. Brightness and contrast go in tenths, where 1.0 falls into the last; sharpness,
-- which has no upper bound, in powers of ten. An image that stands under several names counts once.
WITH bins AS (
    SELECT
        'brightness' AS measure,
        cast(least(floor(brightness * 10), 9) AS bigint) AS bin,
        count(*) AS images
    FROM images
    WHERE outcome = 'loaded' AND brightness IS NOT NULL
    GROUP BY bin
    UNION ALL
    SELECT
        'contrast' AS measure,
        cast(least(floor(contrast * 10), 9) AS bigint) AS bin,
        count(*) AS images
    FROM images
    WHERE outcome = 'loaded' AND contrast IS NOT NULL
    GROUP BY bin
    UNION ALL
    SELECT
        'sharpness' AS measure,
        CASE
            WHEN sharpness < 1 THEN 0
            WHEN sharpness < 10 THEN 1
            WHEN sharpness < 100 THEN 10
            WHEN sharpness < 1000 THEN 100
            WHEN sharpness < 10000 THEN 1000
            ELSE 10000
        END AS bin,
        count(*) AS images
    FROM images
    WHERE outcome = 'loaded' AND sharpness IS NOT NULL
    GROUP BY bin
)

SELECT
    measure,
    CASE WHEN measure = 'sharpness' THEN cast(bin AS double) ELSE bin / 10 END AS bin_from,
    CASE
        WHEN measure <> 'sharpness' THEN (bin + 1) / 10
        WHEN bin = 0 THEN 1.0
        WHEN bin < 10000 THEN bin * 10.0
    END AS bin_to,
    images
FROM bins
