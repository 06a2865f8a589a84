CREATE OR REPLACE DICTIONARY moved_{gen}
(
    subject_no  UInt64,
    customer_id UUID,
    no_change   UInt64
)
PRIMARY KEY subject_no
SOURCE(CLICKHOUSE({credentials}QUERY 'SELECT subject_no, customer_id, bitXor(subject_no, if(customer_id = toUUID(\'ffffffff-ffff-ffff-ffff-ffffffffffff\'), 1, bitXor(byteSwap(reinterpretAsUInt64(substring(UUIDToNum(customer_id), 1, 8))), byteSwap(reinterpretAsUInt64(substring(UUIDToNum(customer_id), 9, 8)))))) AS no_change FROM {database}.subjects_{gen} FINAL WHERE customer_id != subject_id'))
LAYOUT(HASHED())
LIFETIME(0)
