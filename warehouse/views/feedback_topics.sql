CREATE OR REPLACE VIEW feedback_topics AS
SELECT
    toMonday(occurred_at) AS week,
    arrayJoin(if(empty(topics), [''], topics)) AS topic,
    count() AS comments,
    countIf(priority = 'high') / comments AS high_share
FROM {database}.feedback
WHERE comment != ''
GROUP BY week, topic
COMMENT '{gen}'
