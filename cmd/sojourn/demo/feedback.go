package demo

import "strconv"

// appendService writes the properties of the events of docs/events.md.
func (s *shop) appendService(b []byte, e event, p person) []byte {
	text := func(key, value string) { b = appendText(b, key, value) }
	t := p.trouble(e.order)
	opened := func(w words) {
		text("priority", priorities[t.priority])
		text("subject", t.topic.subject)
		text("comment", w.of(p, t.text))
		text("channel", caseChannels[t.text>>8%uint64(len(caseChannels))])
	}
	switch e.kind {
	case surveySent, surveyAnswered:
		b = s.appendSurvey(b, e, p)
	case productReviewed:
		lines, _ := p.order(e.order)
		l := lines[e.salt>>20%uint64(len(lines))].product
		text("product_id", l.sku)
		text("category", l.category)
		text("review_id", "r-"+strconv.FormatUint(e.salt>>16, 36))
		text("rating", strconv.Itoa(int(e.value)))
		if e.salt>>40%4 > 0 {
			text("review_body", reviews[level(e.value, 1, 5)].of(p, e.salt>>44))
		}
	case complaintOpened:
		b = s.appendID(b, `"complaint_id":"C-`, e)
		opened(t.topic.complained)
	case complaintUpdated, complaintResolved:
		b = s.appendID(b, `"complaint_id":"C-`, e)
		if e.kind == complaintUpdated {
			text("by", "agent")
		}
	case ticketOpened:
		b = s.appendID(b, ticketID, e)
		opened(t.topic.asked)
	case ticketReplied:
		b = s.appendID(b, ticketID, e)
		text("by", [...]string{byAgent: "agent", byCustomer: "customer"}[e.value])
	case ticketEscalated:
		b = s.appendID(b, ticketID, e)
		text("priority", priorities[max(t.priority, 2)])
	case ticketResolved, ticketReopened:
		b = s.appendID(b, ticketID, e)
	case chatStarted, chatSent, chatReceived, chatEnded:
		b = s.appendID(b, `"conversation_id":"L-`, e)
		switch e.kind {
		case chatStarted:
			text("message_body", t.topic.asked.of(p, t.text))
		case chatSent:
			text("message_body", chatReplies.of(p, e.salt>>20))
		case chatReceived:
			text("agent_id", agent(e))
			text("message_body", chatAnswers.of(p, e.salt>>20))
		case chatEnded:
			b = append(b, `,"conversation_duration":`...)
			b = strconv.AppendInt(b, 60*int64(e.value), 10)
		}
	case callStarted, callAnswered, callMissed, callEnded:
		b = s.appendID(b, `"call_id":"K-`, e)
		switch e.kind {
		case callAnswered:
			text("agent_id", agent(e))
		case callEnded:
			b = append(b, `,"duration":`...)
			b = strconv.AppendInt(b, 60*int64(e.value), 10)
		}
	}
	return b
}

const ticketID = `"ticket_id":"T-`

func agent(e event) string { return "agent-" + strconv.Itoa(1+int(e.order+e.customer)%12) }

// surveys are what is asked, by its kind.
var surveys = [...]struct {
	kind, campaign, question string
	low, high                uint8
}{
	nps:  {"nps", "after delivery", "How likely are you to recommend us?", 0, 10},
	csat: {"csat", "after service", "How satisfied are you with our help?", 1, 5},
	ces:  {"ces", "checkout", "How easy was it to order?", 1, 7},
}

func (s *shop) appendSurvey(b []byte, e event, p person) []byte {
	ask := &surveys[e.value>>4]
	b = s.appendID(b, `"survey_id":"S-`, e)
	b = appendText(b, "kind", ask.kind)
	b = appendText(b, "campaign", ask.campaign)
	if e.kind == surveySent {
		return b
	}
	score := e.value & 15
	b = append(b, `,"score":`...)
	b = strconv.AppendUint(b, uint64(score), 10)
	b = appendText(b, "question", ask.question)
	if e.salt>>40%5 < 3 {
		b = appendText(b, "comment", opinions[level(score, ask.low, ask.high)].of(p, e.salt>>44))
	}
	return b
}

// appendAccount writes the company that a person buys for: one of as many as
// there are customers in eighty, always with the same traits.
func (s *shop) appendAccount(b []byte, p person) []byte {
	n := mix(p.salt+1<<34) % uint64(1+s.customers/80)
	h := mix(n)
	b = append(b, `,"groupId":"org-`...)
	b = strconv.AppendUint(b, 1000+n, 10)
	b = append(b, `","traits":{`...)
	b = appendText(b, "name", companyNames[0][h%8]+" "+companyNames[1][h>>8%8])
	b = appendText(b, "industry", industries[h>>16%uint64(len(industries))])
	b = append(b, `,"employees":`...)
	b = strconv.AppendUint(b, 3+h>>24%200, 10)
	return append(b, '}')
}
