SELECT DISTINCT pickup_zone_id AS zone_id, pickup_zone AS zone, pickup_borough AS borough
FROM feeds.trips
WHERE pickup_zone IS NOT NULL
