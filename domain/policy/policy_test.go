package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"sojourn/domain"
	"sojourn/domain/policy"
)

func TestDefaultIsValidWithTheStandardNamesWrittenOut(t *testing.T) {
	for _, p := range []policy.Policy{policy.Default(), policy.Default().Expanded()} {
		if err := p.Validate(); err != nil {
			t.Errorf("the default policy is not valid:\n%v", err)
		}
	}
	want := policy.Lifecycle{AtRiskDays: 60, ChurnedDays: 120, LostDays: 365, WonBackDays: 120, LoyalPurchases: 5, LoyalDays: 365}
	if got := policy.Default(); got.Lifecycle != want || got.Currency != "USD" {
		t.Errorf("default is %+v", got)
	}
}

func TestStandardNames(t *testing.T) {
	c := policy.Default().Compile()
	for _, want := range []struct {
		names   string // separated by commas
		meaning policy.Meaning
		channel string
	}{
		{"Order Completed,Completed Order,order completed,order_completed,orderCompleted,ORDER-COMPLETED", policy.Purchase, policy.Web},
		{"Order Updated,Updated Order", policy.OrderUpdate, policy.Web},
		{"Order Refunded,Refunded Order", policy.Refund, policy.Web},
		{"Order Cancelled,Cancelled Order,Order Canceled", policy.Cancellation, policy.Web},
		{"Checkout Started,Started Order,Trial Started,Lead Qualified", policy.Qualified, policy.Web},
		{"Signed Up,Lead Captured", policy.Lead, policy.Web},
		{"Products Searched,Product List Viewed,Viewed Product Category,Product List Filtered", policy.Engagement, policy.Web},
		{"Promotion Viewed,Viewed Promotion,Promotion Clicked,Clicked Promotion", policy.Engagement, policy.Web},
		{"Product Clicked,Clicked Product,Product Viewed,Viewed Product,Product Added,Added Product", policy.Engagement, policy.Web},
		{"Product Removed,Removed Product,Cart Viewed,Checkout Step Viewed,Viewed Checkout Step", policy.Engagement, policy.Web},
		{"Checkout Step Completed,Completed Checkout Step,Payment Info Entered", policy.Engagement, policy.Web},
		{"Coupon Entered,Coupon Applied,Coupon Denied,Coupon Removed", policy.Engagement, policy.Web},
		{"Product Added to Wishlist,Product Removed from Wishlist,Wishlist Product Added to Cart", policy.Engagement, policy.Web},
		{"Product Shared,Cart Shared", policy.Engagement, policy.Web},
		{"Product Reviewed,Complaint,Complaint Opened,Complaint Updated,Complaint Resolved", policy.Feedback, policy.Web},
		{"Survey Answered,Survey Response,NPS,CSAT,CES", policy.Feedback, policy.Survey},
		{"Survey Sent", policy.Marketing, policy.Survey},
		{"Account Created,Account Deleted,Signed In,Signed Out,Invite Sent", policy.Engagement, policy.Web},
		{"Account Added User,Account Removed User,Trial Ended", policy.Engagement, policy.Web},
		{"Email Bounced,Email Delivered,Email Link Clicked,Email Marked as Spam,Email Opened,Unsubscribed", policy.Marketing, policy.Email},
		{"Application Installed,Application Opened,Application Backgrounded,Application Updated", policy.Engagement, policy.Mobile},
		{"Application Uninstalled,Application Crashed,Deep Link Opened,Deep Link Clicked", policy.Engagement, policy.Mobile},
		{"Install Attributed,Push Notification Received,Push Notification Tapped,Push Notification Bounced", policy.Marketing, policy.Mobile},
		{"Live Chat Conversation Started,Live Chat Conversation Ended", policy.Service, policy.Chat},
		{"Live Chat Message Sent,Live Chat Message Received", policy.Service, policy.Chat},
		{"Ticket Opened,Ticket Created,Ticket Solved", policy.Service, policy.Web},
		{"Call Started,Call Ended", policy.Service, policy.Phone},
		{"Store Visit,Store Visited", policy.Engagement, policy.Store},
		{"Something Else,,Order", policy.Unmapped, policy.Web},
	} {
		for name := range strings.SplitSeq(want.names, ",") {
			if got := c.Classify(domain.Track, "shop", name); got.Meaning != want.meaning || got.Channel != want.channel {
				t.Errorf("%q is %s by %s, want %s by %s", name, got.Meaning, got.Channel, want.meaning, want.channel)
			}
		}
	}
	for kind, want := range map[domain.Kind]policy.Rule{
		domain.Page:     {Meaning: policy.Engagement, Channel: policy.Web, ByRule: true},
		domain.Screen:   {Meaning: policy.Engagement, Channel: policy.Mobile, ByRule: true},
		domain.Identify: {Meaning: policy.Identity, Channel: policy.Web, ByRule: true},
		domain.Group:    {Meaning: policy.Identity, Channel: policy.Web, ByRule: true},
		domain.Alias:    {Meaning: policy.Identity, Channel: policy.Web, ByRule: true},
	} {
		// A page that is called as an event is no such event.
		if got := c.Classify(kind, "shop", "Order Completed"); got != want {
			t.Errorf("%v is %+v, want %+v", kind, got, want)
		}
	}
	if got := c.Classify(domain.Kind(99), "", ""); got.Meaning != policy.Unmapped {
		t.Errorf("an unknown kind is %+v", got)
	}
}

func TestWhichMappingFits(t *testing.T) {
	p := policy.Default()
	p.Events = []policy.Mapping{
		{Name: "Sale", Meaning: policy.Purchase, Channel: policy.Store},
		{Names: []string{"sale"}, Meaning: policy.Engagement},
		{Name: "Ticket Opened", Source: "shop", Meaning: policy.Marketing, Channel: policy.Chat},
		{Source: "desk", Type: "track", Meaning: policy.Service, Channel: policy.Phone},
		{Name: "Hello", Source: "desk", Meaning: policy.Feedback},
		{Name: "signed_in", Meaning: policy.Lead},
		{Type: "page", Name: "Pricing", Meaning: policy.Qualified},
		{Type: "identify", Meaning: policy.Engagement},
	}
	p.Channels = []policy.ChannelRule{{Source: "app", Channel: policy.Mobile}}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	encoded, err := p.MarshalCanonical()
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := policy.Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*policy.Compiled{p.Compile(), decoded.Compile()} {
		for _, want := range []struct {
			kind         domain.Kind
			source, name string
			meaning      policy.Meaning
			channel      string
			why          string
		}{
			{domain.Track, "x", "Sale", policy.Purchase, policy.Store, "an equal name"},
			{domain.Track, "x", "sale", policy.Engagement, policy.Web, "an equal name before one that differs in case"},
			{domain.Track, "x", "SALE", policy.Purchase, policy.Store, "the first of those that differ in case"},
			{domain.Track, "shop", "Ticket Opened", policy.Marketing, policy.Chat, "a source before a name alone"},
			{domain.Track, "shop", "ticket_opened", policy.Marketing, policy.Chat, "a source before a name alone, in another spelling"},
			{domain.Track, "x", "Ticket Opened", policy.Service, policy.Web, "not for another source"},
			{domain.Track, "shop", "Order Completed", policy.Purchase, policy.Web, "standard names for a source with mappings of its own"},
			{domain.Track, "desk", "Order Completed", policy.Service, policy.Phone, "all of a source"},
			{domain.Track, "desk", "Hello", policy.Feedback, policy.Web, "a name before all of a source"},
			{domain.Track, "x", "Signed In", policy.Lead, policy.Web, "an own mapping replaces the standard one"},
			{domain.Page, "x", "Pricing", policy.Qualified, policy.Web, "a page by its name"},
			{domain.Page, "x", "Home", policy.Engagement, policy.Web, "another page"},
			{domain.Track, "x", "Pricing", policy.Unmapped, policy.Web, "a page's mapping is not for events"},
			{domain.Identify, "x", "", policy.Engagement, policy.Web, "all of a type"},
			{domain.Track, "app", "Order Completed", policy.Purchase, policy.Mobile, "a source's channel for a standard name without one"},
			{domain.Track, "app", "Email Opened", policy.Marketing, policy.Email, "a mapping's channel before a rule's"},
			{domain.Track, "app", "Sale", policy.Purchase, policy.Store, "a mapping's channel before a rule's"},
			{domain.Track, "app", "What", policy.Unmapped, policy.Mobile, "a source's channel for what is unmapped"},
			{domain.Page, "app", "Home", policy.Engagement, policy.Mobile, "an own rule before a standard one"},
		} {
			got := c.Classify(want.kind, want.source, want.name)
			if got.Meaning != want.meaning || got.Channel != want.channel {
				t.Errorf("%s: %v %q of %s is %s by %s, want %s by %s",
					want.why, want.kind, want.name, want.source, got.Meaning, got.Channel, want.meaning, want.channel)
			}
		}
	}
}

func TestChannelByLibrary(t *testing.T) {
	c := policy.Default().Compile()
	for library, want := range map[string]string{
		"analytics.js": policy.Web, "@segment/analytics-node": policy.Server, "analytics-python": policy.Server,
		"analytics-kotlin": policy.Mobile, "": policy.Web, "unknown": policy.Web,
	} {
		if got := c.Channel(domain.Track, "shop", library); got != want {
			t.Errorf("library %q: channel %s, want %s", library, got, want)
		}
	}
	if got := c.Channel(domain.Page, "shop", "analytics-node"); got != policy.Web {
		t.Errorf("a page sent by a server: channel %s", got)
	}
}

func TestValidateFindsEverything(t *testing.T) {
	p := policy.Default()
	p.Currency = "usd"
	p.Lifecycle = policy.Lifecycle{AtRiskDays: 60, ChurnedDays: 60, LostDays: 50, WonBackDays: 0, LoyalPurchases: 1, LoyalDays: 40_000}
	p.Events = []policy.Mapping{
		{Name: "A", Meaning: "purchse"},
		{Name: "A", Meaning: policy.Purchase, Channel: "fax"},
		{Meaning: policy.Lead},
		{Names: []string{"B", ""}, Type: "trakc"},
		{Name: "C", Meaning: policy.Unmapped},
		{Source: "s", Meaning: policy.Lead},
		{Source: "s", Type: "track", Meaning: policy.Lead},
	}
	p.Channels = []policy.ChannelRule{{Type: "pages", Channel: "wep"}, {}}
	err := p.Validate()
	var problems policy.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("Validate returned %v", err)
	}
	want := []string{
		"currency", "lifecycle.won_back_days", "lifecycle.loyal_days", "lifecycle.loyal_purchases",
		"lifecycle.churned_days", "lifecycle.lost_days",
		"events[0].meaning", "events[1].channel", "events[1].name", "events[2]",
		"events[3].type", "events[3].meaning", "events[3].names[1]", "events[4].meaning", "events[6]",
		"channels[0].type", "channels[0].channel", "channels[1].channel",
	}
	var got []string
	for _, problem := range problems {
		got = append(got, problem.PathString())
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems at\n%q, want\n%q", got, want)
	}
	for _, part := range []string{"did you mean purchase?", "did you mean track?", "did you mean web?", "is mapped already by events[0].name"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in\n%v", part, err)
		}
	}
}

func TestCanonicalRoundTrip(t *testing.T) {
	p := policy.Default()
	p.Events = []policy.Mapping{{Name: "Kauf & mehr", Meaning: policy.Purchase}}
	a, err := p.MarshalCanonical()
	if err != nil {
		t.Fatal(err)
	}
	q, err := policy.Decode(a)
	if err != nil {
		t.Fatal(err)
	}
	if q.Standard {
		t.Error("the standard names would be added twice")
	}
	b, err := q.MarshalCanonical()
	if err != nil || string(a) != string(b) {
		t.Errorf("a policy read back is another one (%v)", err)
	}
	if !strings.Contains(string(a), `"Kauf & mehr"`) || !strings.Contains(string(a), `"Completed Order"`) {
		t.Errorf("canonical form: %s", a)
	}
}

func TestDecode(t *testing.T) {
	p, err := policy.Decode([]byte(`{"lifecycle":{"at_risk_days":30},"events":[{"name":"X","meaning":"lead"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if p.Lifecycle.AtRiskDays != 30 || p.Lifecycle.LostDays != 365 || !p.Standard || p.Currency != "USD" {
		t.Errorf("what a document does not say is not as in the default: %+v", p)
	}
	_, err = policy.Decode([]byte(`{"lifecycle":{"at_risk_day":30},"events":[{"name":"X"},{"meening":"lead"}],"colour":1}`))
	var problems policy.Problems
	if !errors.As(err, &problems) || len(problems) != 3 {
		t.Fatalf("unknown keys: %v", err)
	}
	for _, part := range []string{
		`lifecycle.at_risk_day: "at_risk_day" is no key of a policy: did you mean at_risk_days?`,
		`events[1].meening: "meening" is no key of a policy: did you mean meaning?`,
		`colour: "colour" is no key of a policy: use currency, lifecycle, identity, loyalty, satisfaction, standard, events, channels or mappings`,
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in\n%v", part, err)
		}
	}
	for _, bad := range []string{``, `[]`, `{`, `{} {}`, `{"currency":1}`, `null x`} {
		if _, err := policy.Decode([]byte(bad)); err == nil {
			t.Errorf("%q was read as a policy", bad)
		}
	}
}

func TestClassifyAllocatesNothing(t *testing.T) {
	c := policy.Default().Compile()
	for _, name := range []string{"Order Completed", "order_completed", "What Ever It Is"} {
		if n := testing.AllocsPerRun(100, func() { c.Classify(domain.Track, "shop", name) }); n != 0 {
			t.Errorf("%q: %v allocations", name, n)
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	c := policy.Default().Compile()
	for _, name := range []string{"Product Viewed", "product_viewed", "Unknown Event"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Classify(domain.Track, "shop", name)
			}
		})
	}
}
