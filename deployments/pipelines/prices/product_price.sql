-- The newest price of each product of a dataset, beside what its image shows.
SELECT
    products.dataset,
    products.id AS product_id,
    products.display_name,
    prices.day,
    prices.price,
    prices.currency
FROM warehouse.fact_product AS products
JOIN feeds.prices AS prices ON prices.product_id = products.id
QUALIFY row_number() OVER (PARTITION BY products.dataset, products.id ORDER BY prices.day DESC) = 1
