CREATE OR REPLACE VIEW subjects AS
SELECT
    subject_id,
    subject,
    customer_id
FROM {database}.subjects_{gen} FINAL
WHERE customer_id != subject_id
COMMENT '{gen}'
