package policy

// The hints of the sections loyalty, satisfaction and mappings. Those of the first two
// are also the comments of the file that sojourn policy default prints.

func loyaltyHints() map[string]hint {
	const from = "From when on it holds, a time or a date; without it from the moment of apply, in the first policy without a beginning. A time in the past needs retroactive."
	const retroactive = "Whether from may lie in the past, so that history is judged anew; without from all of it."
	all := map[string]hint{
		"loyalty":                                               {doc: "Points and tiers."},
		"loyalty.programmes":                                    {doc: "Programmes run side by side, such as by brand or country; the first is meant where none is named. An empty list is none."},
		"loyalty.programmes[]":                                  {doc: "What a programme leaves out is as in the default."},
		"loyalty.programmes[].id":                               {doc: "Its name: lower case letters, digits, _ and -, a letter first.", required: true},
		"loyalty.programmes[].currency":                         {doc: "What per_unit, point and a spend are counted in; the policy's where it is empty."},
		"loyalty.programmes[].time_zone":                        {doc: "Of calendar years, birthdays and bare dates, such as Europe/Berlin."},
		"loyalty.programmes[].from":                             {doc: "Before it nothing earns, and opening balances are dated at it. Without it from when the programme is first applied, in the first policy without a beginning."},
		"loyalty.programmes[].retroactive":                      {doc: "Whether from may lie in the past."},
		"loyalty.programmes[].earning":                          {doc: "What gives points."},
		"loyalty.programmes[].expiry":                           {doc: "How long points live."},
		"loyalty.programmes[].value":                            {doc: "What points are worth."},
		"loyalty.programmes[].tiers":                            {doc: "What makes a tier."},
		"loyalty.programmes[].earning.enrolment":                {doc: "automatic: from the first touchpoint; explicit: from the enrolment on.", enum: []string{Automatic, Explicit}},
		"loyalty.programmes[].earning.per_unit":                 {doc: "Points for a unit of the programme's currency; an order's are rounded down."},
		"loyalty.programmes[].earning.rates":                    {doc: "Points for a unit of other currencies, such as {CHF: 1.05}; one without a rate earns nothing."},
		"loyalty.programmes[].earning.rates.*":                  {doc: "Points for a unit of this currency."},
		"loyalty.programmes[].earning.pending_days":             {doc: "Days until points can be spent.", max: maxDays},
		"loyalty.programmes[].earning.events":                   {doc: "Events that give points, such as {name: Product Reviewed, points: 50}."},
		"loyalty.programmes[].earning.events[].name":            {doc: "The event's name, spelt in whatever case.", required: true},
		"loyalty.programmes[].earning.events[].points":          {doc: "Points for each.", max: maxPoints, required: true},
		"loyalty.programmes[].earning.birthday":                 {doc: "Points for a birthday (trait birthday), once a calendar year.", max: maxPoints},
		"loyalty.programmes[].earning.multipliers":              {doc: "Multiply the points of what fits all that they name, such as {factor: 2, tiers: [gold], starts: 2026-03-01, ends: 2026-03-08}; several that fit are multiplied with one another."},
		"loyalty.programmes[].earning.multipliers[].factor":     {doc: "What the points are multiplied by.", required: true},
		"loyalty.programmes[].earning.multipliers[].products":   {doc: "Only these products: product_id, else sku."},
		"loyalty.programmes[].earning.multipliers[].categories": {doc: "Only products of these categories."},
		"loyalty.programmes[].earning.multipliers[].channels":   {doc: "Only purchases and events through these channels."},
		"loyalty.programmes[].earning.multipliers[].channels[]": {enum: Channels},
		"loyalty.programmes[].earning.multipliers[].tiers":      {doc: "Only customers who held one of these tiers just before."},
		"loyalty.programmes[].earning.multipliers[].starts":     {doc: "A time or a date: from then on."},
		"loyalty.programmes[].earning.multipliers[].ends":       {doc: "A time or a date: until before then."},
		"loyalty.programmes[].expiry.days":                      {doc: "Days from earning until points expire; 0 is never.", max: maxDays},
		"loyalty.programmes[].expiry.grace_days":                {doc: "Days that points of a cancelled redemption live which would have expired meanwhile.", max: maxDays},
		"loyalty.programmes[].value.point":                      {doc: "What one is worth in the programme's currency."},
		"loyalty.programmes[].tiers.by":                         {doc: "points, or spend: orders in the programme's currency, net of refunds.", enum: []string{ByPoints, BySpend}},
		"loyalty.programmes[].tiers.window":                     {doc: "trailing: the last days; calendar: the calendar year.", enum: []string{Trailing, Calendar}},
		"loyalty.programmes[].tiers.days":                       {doc: "How long a trailing window is, and a hold.", min: 1, max: maxDays},
		"loyalty.programmes[].tiers.levels":                     {doc: "The tiers in ascending order; the first begins at 0."},
		"loyalty.programmes[].tiers.levels[].name":              {doc: "The tier's name.", required: true},
		"loyalty.programmes[].tiers.levels[].threshold":         {doc: "What the window's total must reach, in points or money."},
		"loyalty.programmes[].tiers.levels[].benefits":          {doc: "Names of benefits, for whoever grants them."},
	}
	for _, section := range []string{"earning", "expiry", "value", "tiers"} {
		all["loyalty.programmes[]."+section+".from"] = hint{doc: from}
		all["loyalty.programmes[]."+section+".retroactive"] = hint{doc: retroactive}
	}
	return all
}

func satisfactionHints() map[string]hint {
	return map[string]hint{
		"satisfaction":                                  {doc: "How opinions and service are judged. It applies to all history. A list that you give stands in place of the default's."},
		"satisfaction.half_life_days":                   {doc: "The age at which a signal counts half.", min: 1, max: maxDays},
		"satisfaction.weights":                          {doc: "What each kind of score weighs in the index; 0 leaves it out."},
		"satisfaction.floor":                            {doc: "When the aged weights together are below it, the index and the status are unknown."},
		"satisfaction.complaint_cap":                    {doc: "The most that the index can be while a complaint is open."},
		"satisfaction.status":                           {doc: "From which index on a customer is what; below neutral unhappy."},
		"satisfaction.csat":                             {doc: "The scales of CSAT, and the scores that count as satisfied."},
		"satisfaction.csat[].scale":                     {doc: "Its lowest and highest score, such as 1-5.", required: true},
		"satisfaction.csat[].satisfied":                 {doc: "The scores that count as satisfied.", required: true},
		"satisfaction.ces_easy":                         {doc: "The end of the CES scale (1 to 7) that means easy.", enum: []string{High, Low}},
		"satisfaction.hours":                            {doc: "The business hours; without week they are round the clock."},
		"satisfaction.hours.zone":                       {doc: "The time zone, such as Europe/Berlin."},
		"satisfaction.hours.week":                       {doc: "Spans of the week, such as {days: [mon, fri], from: 09:00, to: 17:00}; several a day are allowed."},
		"satisfaction.hours.week[].days":                {required: true},
		"satisfaction.hours.week[].days[]":              {enum: Weekdays},
		"satisfaction.hours.week[].from":                {doc: "Local time, such as 09:00.", required: true},
		"satisfaction.hours.week[].to":                  {doc: "Local time, such as 17:30; 24:00 is the end of the day.", required: true},
		"satisfaction.hours.holidays":                   {doc: "Days that are closed: 2026-04-03, or 12-25 for every year."},
		"satisfaction.clocks":                           {doc: "Which clocks run in business hours only."},
		"satisfaction.clocks.first_response":            {doc: "always, or business: in business hours.", enum: []string{RoundTheClock, Business}},
		"satisfaction.clocks.resolution":                {doc: "always, or business: in business hours.", enum: []string{RoundTheClock, Business}},
		"satisfaction.clocks.pause_waiting":             {doc: "Whether waiting for the customer stops the clock of a resolution."},
		"satisfaction.targets":                          {doc: "How long service may take: the first that fits the case and, where it names one, the priority."},
		"satisfaction.targets[].case":                   {doc: "The kind of case.", enum: Cases, required: true},
		"satisfaction.targets[].priority":               {doc: "Only cases of this priority."},
		"satisfaction.targets[].first_response_minutes": {doc: "Until an agent's first reply; 0 is no target."},
		"satisfaction.targets[].resolution_minutes":     {doc: "Until the last resolution, without the time between a resolution and its reopening; 0 is no target."},
		"satisfaction.voice":                            {doc: "Sorts comments."},
		"satisfaction.voice.standard":                   {doc: "Whether the standard rules, English and Chinese, stand behind yours; a topic of yours replaces theirs."},
		"satisfaction.voice.rules":                      {doc: "Your rules, such as {topic: warranty, words: [warrant*, guarantee], unless: [gift guarantee]}."},
		"satisfaction.voice.rules[].topic":              {doc: "The topic it gives."},
		"satisfaction.voice.rules[].need":               {doc: "The need it gives.", enum: Needs},
		"satisfaction.voice.rules[].priority":           {doc: "The priority it gives.", enum: Priorities},
		"satisfaction.voice.rules[].words":              {doc: "Words that fit, whole ones unless they end or begin with *."},
		"satisfaction.voice.rules[].patterns":           {doc: "Regular expressions (RE2) that fit, on text in lower case."},
		"satisfaction.voice.rules[].unless":             {doc: "Words that are not looked at."},
		"satisfaction.service":                          {doc: "How a customer is to be treated."},
		"satisfaction.service.default":                  {doc: "The level of whom no other fits."},
		"satisfaction.service.flags":                    {doc: "The flags that a customer can bear."},
		"satisfaction.service.levels":                   {doc: "Levels in order: the first whose conditions all hold."},
		"satisfaction.service.levels[].level":           {doc: "Its name.", required: true},
		"satisfaction.service.levels[].flags":           {doc: "The customer bears one of them, not expired."},
		"satisfaction.service.levels[].tiers":           {doc: "It holds one of these loyalty tiers."},
		"satisfaction.service.levels[].value":           {doc: "Purchases less refunds come to this much, in the policy's currency."},
		"satisfaction.service.levels[].open_complaints": {doc: "So many complaints are open."},
		"satisfaction.service.levels[].open_tickets":    {doc: "So many tickets are open."},
		"satisfaction.service.levels[].statuses":        {doc: "Its satisfaction is one of them."},
		"satisfaction.service.levels[].statuses[]":      {enum: Statuses},
	}
}

func mappingHints() map[string]hint {
	all := map[string]hint{
		"mappings":               {doc: "How messages are made of the records of Kafka topics, by the name that kafka.topics[].mapping of the configuration calls them by: lower case letters, digits, _ and -, a letter first."},
		"mappings.*.type":        {doc: "The type of the messages; track where it is not given.", enum: kindNames()},
		"mappings.*.user":        {doc: "The path of the user's id, such as customer.id, $key or $header.user."},
		"mappings.*.anonymous":   {doc: "The path of the visitor's id."},
		"mappings.*.previous":    {doc: "Of an alias: the path of the previous id."},
		"mappings.*.time":        {doc: "When it happened; the record's timestamp where it is not given."},
		"mappings.*.time.field":  {doc: "The path of the time."},
		"mappings.*.time.format": {doc: "rfc3339 (where it is not given), unix (seconds), unix_ms, or a layout of Go, in UTC."},
		"mappings.*.event":       {doc: "The name of the event, page or screen: {value: Order Completed} or {field: kind}."},
		"mappings.*.identity":    {doc: "The paths that name a message for ever, such as an order number; without any it is the topic, partition and offset."},
		"mappings.*.properties":  {doc: "Of track, page and screen, a field by each name; without any the whole value."},
		"mappings.*.traits":      {doc: "Of identify and group, a field by each name; without any the whole value."},
		"mappings.*.context":     {doc: "The context, a field by each name."},
	}
	for _, path := range []string{"mappings.*.event", "mappings.*.properties.*", "mappings.*.traits.*", "mappings.*.context.*"} {
		all[path+".field"] = hint{doc: "The path of the value."}
		all[path+".value"] = hint{doc: "A value that is the same for all."}
		all[path+".kind"] = hint{doc: "Makes text or a number of the value.", enum: []string{StringField, NumberField}}
	}
	return all
}
