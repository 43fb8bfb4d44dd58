-- Each trip with the names of its zones; a zone that the table of zones does not know stays without a name.
SELECT
    tidy.*,
    pickup.Borough AS pickup_borough,
    pickup.Zone AS pickup_zone,
    dropoff.Zone AS dropoff_zone
FROM tidy
LEFT JOIN zones AS pickup ON pickup.LocationID = tidy.pickup_zone_id
LEFT JOIN zones AS dropoff ON dropoff.LocationID = tidy.dropoff_zone_id
