CREATE OR REPLACE DICTIONARY moved_{gen}
(
    subject_no  UInt64,
    customer_id UUID
)
PRIMARY KEY subject_no
SOURCE(CLICKHOUSE({credentials}QUERY 'SELECT subject_no, customer_id FROM {database}.subjects_{gen} FINAL WHERE customer_id != subject_id'))
LAYOUT(HASHED_ARRAY())
LIFETIME(0)
