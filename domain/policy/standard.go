package policy

// standardChannels follow the policy's own channel rules. A page was seen on the
// web whoever reports it; for the rest a known library tells.
var standardChannels = []ChannelRule{
	{Type: "page", Channel: Web},
	{Type: "screen", Channel: Mobile},
	{Library: "analytics.js", Channel: Web},
	{Library: "analytics-ios", Channel: Mobile},
	{Library: "analytics-swift", Channel: Mobile},
	{Library: "analytics-android", Channel: Mobile},
	{Library: "analytics-kotlin", Channel: Mobile},
	{Library: "analytics-react-native", Channel: Mobile},
	{Library: "analytics-flutter", Channel: Mobile},
	{Library: "@segment/analytics-react-native", Channel: Mobile},
	{Library: "@segment/analytics-node", Channel: Server},
	{Library: "analytics-node", Channel: Server},
	{Library: "analytics-python", Channel: Server},
	{Library: "analytics-ruby", Channel: Server},
	{Library: "analytics-php", Channel: Server},
	{Library: "analytics-java", Channel: Server},
	{Library: "analytics-go", Channel: Server},
	{Library: "analytics-rust", Channel: Server},
	{Library: "Analytics.NET", Channel: Server},
	{Library: "Analytics-CSharp", Channel: Server},
	{Channel: Web},
}

// standard is a group of names of one meaning, act and channel; an empty channel
// leaves it to the channel rules.
type standard struct {
	meaning Meaning
	channel string
	act     Act
	names   []string
}

// standards are the names known out of the box: those of Segment's specs for
// e-commerce (both versions and the enhanced e-commerce names they are aliases
// of), B2B SaaS, e-mail, mobile and live chat, and names in wide use for service,
// feedback, leads and marketing. Case, spaces, underscores and hyphens make no
// difference, so each is written once.
var standards = []standard{
	// E-commerce: the order.
	{Purchase, "", "", []string{"Order Completed", "Completed Order"}},
	{OrderUpdate, "", "", []string{"Order Updated", "Updated Order"}},
	{Refund, "", "", []string{"Order Refunded", "Refunded Order"}},
	{Cancellation, "", "", []string{"Order Cancelled", "Cancelled Order", "Order Canceled", "Canceled Order"}},
	{Qualified, "", "", []string{"Checkout Started", "Started Checkout", "Order Started", "Started Order"}},
	// E-commerce: the way to it.
	{Engagement, "", "", []string{
		"Products Searched", "Searched Products",
		"Product List Viewed", "Viewed Product List", "Product Category Viewed", "Viewed Product Category",
		"Product List Filtered", "Filtered Product List",
		"Promotion Viewed", "Viewed Promotion",
		"Promotion Clicked", "Clicked Promotion",
		"Product Clicked", "Clicked Product",
		"Product Viewed", "Viewed Product", "Viewed Product Details", "Product Details Viewed",
		"Product Added", "Added Product",
		"Product Removed", "Removed Product",
		"Cart Viewed", "Viewed Cart",
		"Checkout Step Viewed", "Viewed Checkout Step",
		"Checkout Step Completed", "Completed Checkout Step",
		"Payment Info Entered", "Entered Payment Info", "Payment Info Added", "Added Payment Info",
		"Order Configured", "Configured Order",
		"Coupon Entered", "Entered Coupon",
		"Coupon Applied", "Applied Coupon",
		"Coupon Denied", "Denied Coupon",
		"Coupon Removed", "Removed Coupon",
		"Product Added to Wishlist", "Added Product to Wishlist",
		"Product Removed from Wishlist", "Removed Product from Wishlist",
		"Wishlist Product Added to Cart", "Wishlist Product Added", "Added Wishlist Product to Cart",
		"Product Shared", "Shared Product",
		"Cart Shared", "Shared Cart",
	}},
	{Feedback, "", ActProductReviewed, []string{"Product Reviewed", "Reviewed Product", "Review Submitted", "Rating Submitted"}},

	// B2B SaaS.
	{Lead, "", "", []string{"Signed Up"}},
	{Qualified, "", "", []string{"Trial Started", "Started Trial"}},
	{Engagement, "", "", []string{
		"Account Created", "Created Account",
		"Account Deleted", "Deleted Account",
		"Signed In", "Signed Out",
		"Invite Sent", "Sent Invite",
		"Account Added User", "Added User to Account",
		"Account Removed User", "Removed User from Account",
		"Trial Ended", "Ended Trial",
	}},

	// E-mail.
	{Marketing, Email, "", []string{
		"Email Sent", "Email Delivered", "Email Bounced", "Email Opened",
		"Email Link Clicked", "Email Clicked", "Email Marked as Spam",
		"Subscribed", "Unsubscribed",
	}},

	// Mobile: the application's lifecycle and its campaigns.
	{Engagement, Mobile, "", []string{
		"Application Installed", "Application Opened", "Application Foregrounded",
		"Application Backgrounded", "Application Updated", "Application Uninstalled",
		"Application Crashed", "Deep Link Opened", "Deep Link Clicked",
	}},
	{Marketing, Mobile, "", []string{
		"Install Attributed",
		"Push Notification Sent", "Push Notification Received",
		"Push Notification Tapped", "Push Notification Bounced",
	}},

	// Live chat.
	{Service, Chat, ActChatStarted, []string{"Live Chat Conversation Started", "Chat Started"}},
	{Service, Chat, ActChatMessageSent, []string{"Live Chat Message Sent"}},
	{Service, Chat, ActChatMessageReceived, []string{"Live Chat Message Received"}},
	{Service, Chat, ActChatEnded, []string{"Live Chat Conversation Ended", "Chat Ended"}},

	// Leads.
	{Lead, "", "", []string{"Lead Captured", "Captured Lead"}},
	{Qualified, "", "", []string{"Lead Qualified", "Qualified Lead"}},

	// Service.
	{Service, "", ActTicketOpened, []string{"Ticket Opened", "Ticket Created"}},
	{Service, "", ActTicketReplied, []string{"Ticket Replied", "Ticket Commented"}},
	{Service, "", ActTicketEscalated, []string{"Ticket Escalated"}},
	{Service, "", ActTicketResolved, []string{"Ticket Resolved", "Ticket Solved"}},
	{Service, "", ActTicketClosed, []string{"Ticket Closed"}},
	{Service, "", ActTicketReopened, []string{"Ticket Reopened"}},
	{Service, "", "", []string{"Ticket Updated"}},
	{Service, Phone, ActCallStarted, []string{"Call Started", "Call Received"}},
	{Service, Phone, ActCallAnswered, []string{"Call Answered"}},
	{Service, Phone, ActCallMissed, []string{"Call Missed"}},
	{Service, Phone, ActCallEnded, []string{"Call Ended", "Call Completed"}},
	{Service, Email, "", []string{"Support Email Received", "Support Email Sent"}},

	// Feedback.
	{Marketing, Survey, ActSurveySent, []string{"Survey Sent"}},
	{Feedback, Survey, ActSurveyAnswered, []string{
		"Survey Answered", "Survey Response", "Survey Responded", "Survey Completed", "Survey Submitted",
		"Feedback Given", "Feedback Submitted",
	}},
	{Feedback, Survey, ActNPSAnswered, []string{"NPS", "NPS Answered", "NPS Response", "NPS Submitted"}},
	{Feedback, Survey, ActCSATAnswered, []string{"CSAT", "CSAT Answered", "CSAT Response", "CSAT Submitted"}},
	{Feedback, Survey, ActCESAnswered, []string{"CES", "CES Answered", "CES Response", "CES Submitted"}},
	{Feedback, "", ActComplaintOpened, []string{
		"Complaint Opened", "Complaint", "Complaint Filed", "Complaint Received", "Complaint Submitted",
	}},
	{Feedback, "", ActComplaintUpdated, []string{"Complaint Updated"}},
	{Feedback, "", ActComplaintResolved, []string{"Complaint Resolved", "Complaint Closed"}},

	// Store and social.
	{Engagement, Store, "", []string{"Store Visit", "Store Visited", "Store Visit Started", "Store Visit Ended"}},
	{Engagement, Social, "", []string{"Social Post Liked", "Social Post Shared", "Social Post Commented", "Social Mention", "Social Profile Followed"}},
	{Service, Social, "", []string{"Social Message Received", "Social Message Sent"}},
}

// standardEvents are the standards as mappings.
func standardEvents() []Mapping {
	mappings := make([]Mapping, len(standards))
	for i, s := range standards {
		mappings[i] = Mapping{Names: s.names, Meaning: s.meaning, As: s.act, Channel: s.channel}
	}
	return mappings
}
