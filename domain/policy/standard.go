package policy

var standardChannels = []ChannelRule{}

func standardEvents() []Mapping { return nil }
