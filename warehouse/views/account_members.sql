CREATE OR REPLACE VIEW account_members AS
SELECT
    account_id,
    dictGetOrDefault('{database}.moved_{gen}', 'customer_id', subject_no, subject_id) AS customer_id,
    min(since) AS since
FROM {database}.account_members_{gen} FINAL
GROUP BY account_id, customer_id
HAVING customer_id != toUUID('ffffffff-ffff-ffff-ffff-ffffffffffff')
COMMENT '{gen}'
