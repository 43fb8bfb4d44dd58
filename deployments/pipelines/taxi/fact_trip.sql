SELECT
    trips.taxi,
    trips.vendor_id,
    trips.pickup_at,
    trips.pickup_zone_id,
    trips.dropoff_zone_id,
    CAST(trips.pickup_at AS DATE) AS day,
    dim_zone.zone_key,
    dim_payment.payment_key,
    sum(trips.distance_miles) AS distance_miles,
    sum(trips.total) AS total,
    count(*) AS trips
FROM feeds.trips
LEFT JOIN dim_zone ON dim_zone.zone_id = trips.pickup_zone_id
LEFT JOIN dim_payment ON dim_payment.payment = trips.payment
GROUP BY ALL
