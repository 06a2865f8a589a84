package demo

// words are texts in the languages that the customers write in.
type words struct{ en, zh []string }

// of picks one in the customer's language.
func (w words) of(p person, n uint64) string {
	texts := w.en
	if p.chinese() {
		texts = w.zh
	}
	return texts[n%uint64(len(texts))]
}

func (p person) chinese() bool { return countries[p.country].locale == "zh-CN" }

var priorities = [...]string{"low", "normal", "high", urgent: "urgent"}

// topic is what people need help with: what they ask, and how they complain.
type topic struct {
	subject           string
	asked, complained words
}

var topics = [...]topic{
	{
		"delivery",
		words{
			[]string{"Where is my parcel? The tracking has not moved for days.", "The courier says delivered, but nothing is here.", "Can you tell me when the order will arrive?"},
			[]string{"我的快递到哪里了？物流好几天没更新。", "显示已签收，但是我没收到货。", "请问什么时候发货？"},
		},
		words{
			[]string{"The parcel came two weeks late and nobody told me.", "The driver left my package in the rain. I am angry."},
			[]string{"快递晚了两个星期，没有人通知我，太失望了。", "包裹被扔在门口淋雨，配送太差。"},
		},
	},
	{
		"return",
		words{
			[]string{"How do I return the cushion? It does not fit the sofa.", "My refund has not come yet.", "Please send me a return label."},
			[]string{"请问怎么退货？颜色不合适。", "退款还没有到账。", "可以换货吗？"},
		},
		words{
			[]string{"I sent it back a month ago and still have no refund. Unacceptable.", "You refuse the exchange that your site promises."},
			[]string{"退货一个月了还没退款，受不了。", "说好七天无理由，现在又不给退。"},
		},
	},
	{
		"defect",
		words{
			[]string{"The lamp stopped working after a week.", "One leg of the chair is cracked.", "The pot arrived broken, can I have a new one?"},
			[]string{"台灯用了几天就坏了。", "椅子腿裂了，怎么办？", "花盆收到的时候碎了。"},
		},
		words{
			[]string{"The second lamp is broken too. Your quality is awful.", "The shelf fell off the wall in front of my guests."},
			[]string{"第二个又坏了，质量太差，非常生气。", "架子当着客人的面掉下来，太丢脸了。"},
		},
	},
	{
		"invoice",
		words{
			[]string{"I was charged twice for one order.", "Please send the invoice with our company's name.", "My card was declined, what now?"},
			[]string{"一个订单扣款两次。", "请开公司抬头的发票。", "信用卡付款失败了。"},
		},
		words{
			[]string{"You charged my card twice and nobody answers. I feel cheated.", "The invoice is wrong for the third time."},
			[]string{"重复扣款，客服还不回复，感觉被骗。", "发票开错三次了。"},
		},
	},
	{
		"account",
		words{
			[]string{"I cannot log in, the password mail never comes.", "The app crashes at the checkout.", "Please change my e-mail address."},
			[]string{"登录不了，收不到验证码。", "付款的时候app闪退。", "怎么修改邮箱？"},
		},
		words{
			[]string{"The app lost my cart three times. So frustrating.", "Your website logged me out and the sale price was gone."},
			[]string{"app总是闪退，购物车都没了，很烦。", "网站一直打不开，错过了优惠。"},
		},
	},
	{
		"order",
		words{
			[]string{"I got the wrong colour.", "One mug was missing from the box.", "Can you cancel my order? I chose the wrong size."},
			[]string{"发错颜色了。", "少发了一个杯子。", "可以取消订单吗？"},
		},
		words{
			[]string{"Wrong item again, and it was a birthday gift.", "Half of my order is missing and your staff was rude."},
			[]string{"又发错货，这是送给朋友的生日礼物。", "少发一半，客服态度还很差。"},
		},
	},
}

// opinions are what people say in surveys, the discontent first.
var opinions = [...]words{
	{
		[]string{
			"Nobody answers my mails. Disappointed.", "Delivery took far too long.", "Too expensive for what you get.",
			"It broke after a month, never again.", "The checkout is a maze.",
		},
		[]string{"客服不回复，很失望。", "物流太慢了。", "太贵，不值。", "用了一个月就坏了，不会再买。", "页面很难用。"},
	},
	{
		[]string{
			"All right, but the packaging could be better.", "Good lamps, slow delivery.", "Prices went up.",
			"More colours would be nice.", "It took some time to find what I wanted.",
		},
		[]string{"还可以，包装可以更好。", "东西不错，快递有点慢。", "涨价了。", "希望有更多颜色。", "一般般。"},
	},
	{
		[]string{
			"Fast delivery and well made.", "Love the blanket, my friends ask where it is from.", "Your support was so helpful.",
			"Good value, will come again.", "Easy to order, and here the next day.",
		},
		[]string{"发货很快，质量很好。", "很喜欢，朋友都问在哪里买的。", "客服很耐心，谢谢！", "性价比高，会再来。", "下单方便，第二天就到货了。"},
	},
}

// reviews are what people say of a product.
var reviews = [...]words{
	{
		[]string{"Fell apart within weeks.", "Looks nothing like the picture.", "Smells of glue, sent it back."},
		[]string{"没多久就坏了。", "和图片不一样，失望。", "有异味，退货了。"},
	},
	{
		[]string{"Does its job.", "Nice, but smaller than I thought.", "Fine for the price."},
		[]string{"还行。", "比想象的小一点。", "这个价格可以接受。"},
	},
	{
		[]string{"Beautiful and sturdy.", "Exactly what I wanted, a lovely gift too.", "Best I have bought in years."},
		[]string{"做工很好，很结实。", "非常喜欢，送人也合适。", "物超所值！"},
	},
}

// level is the place of a score on its scale among opinions and reviews.
func level(score, low, high uint8) int {
	switch share := float64(score-low) / float64(high-low); {
	case share < 0.5:
		return 0
	case share < 0.85:
		return 1
	}
	return 2
}

var chatAnswers = words{
	[]string{"Hello, one moment please, I am looking it up.", "Thank you for waiting. I have sent you an e-mail with all you need.", "That is settled now."},
	[]string{"您好，请稍等，我查一下。", "感谢等待，已经给您发了邮件。", "已经处理好了。"},
}

var chatReplies = words{
	[]string{"Thank you!", "The order is from last week.", "And how long will that take?"},
	[]string{"谢谢！", "是上周的订单。", "大概要多久？"},
}

var caseChannels = [...]string{"email", "phone", "web", "social", "store", "email"}
