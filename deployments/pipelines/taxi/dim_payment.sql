SELECT DISTINCT payment FROM feeds.trips WHERE payment IS NOT NULL
