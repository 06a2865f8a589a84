package policy

// standardVoice are the rules for comments in English and Chinese that stand behind
// a policy's own. Social words go before emotional ones: who speaks of others and
// with feeling has a social need. What names neither is functional. They are
// measured on domain/satisfaction/testdata.
func standardVoice() []VoiceRule {
	return []VoiceRule{
		// The need.
		{
			Need: "social",
			Words: []string{
				"recommend*", "my friend", "my friends", "friends", "a friend", "my wife", "my husband", "my family", "my colleagues",
				"colleague*", "neighbour*", "neighbor*", "everyone asks", "everybody asks", "compliment*", "gift*", "birthday", "wedding",
				"community", "my guests", "my mother", "my mum", "my mom", "my dad", "my father", "my daughter", "my son", "my boss",
				"embarrass*", "in front of", "tell everyone", "told everyone", "word of mouth", "sustainab*", "fair trade", "ethical*", "look cool",
				"推荐", "推薦", "朋友", "同事", "家人", "老婆", "老公", "爸妈", "妈妈", "爸爸", "媽媽", "送礼", "送人", "礼物", "禮物", "生日",
				"婚礼", "婚禮", "邻居", "客人", "亲戚", "丢脸", "有面子", "没面子", "夸", "大家都", "孩子", "女儿", "儿子", "闺蜜", "社区", "環保", "环保", "老板",
			},
			Unless: []string{"客人员", "孩子气", "夸张", "friends list"},
		},
		{
			Need: "emotional",
			Words: []string{
				"love", "loved", "loving", "hate", "hated", "angry", "furious", "disappoint*", "frustrat*", "annoy*", "upset", "happy", "happier", "unhappy", "never again",
				"delighted", "thrilled", "excited", "ashamed", "insult*", "rude", "disrespect*", "trust*", "worried", "worry*", "anxious", "scared",
				"afraid", "joy*", "sad", "amazing", "awful", "horrible", "terrible", "disgust*", "nightmare", "stress*", "relieved", "grateful",
				"ignored", "humiliat*", "cheated", "lied", "lies", "liar*", "betray*", "feel", "feels like", "felt", "fed up", "sick of", "ridiculous", "unacceptable", "peace of mind",
				"生气", "生氣", "气死", "氣死", "愤怒", "失望", "喜欢", "喜歡", "喜爱", "最爱", "太爱", "爱死", "开心", "開心", "高兴", "高興", "满足感", "惊喜", "驚喜", "感动", "感動", "讨厌", "討厭", "恶心", "烦", "煩",
				"无语", "無語", "郁闷", "委屈", "担心", "擔心", "焦虑", "害怕", "放心", "安心", "信任", "被骗", "欺骗", "受骗", "骗人", "上当", "伤心", "崩溃", "心累", "糟心", "侮辱", "态度恶劣", "不尊重", "感激", "感谢", "感謝", "暖心", "受不了", "寒心", "可恶", "过分", "敷衍", "骗子", "騙子", "垃圾",
			},
			Unless: []string{"垃圾短信", "垃圾邮件", "喜欢的颜色", "喜欢的款", "麻烦", "麻煩", "lovely price", "would love to see"},
		},

		// Topics.
		{
			Topic: "delivery",
			Words: []string{
				"deliver*", "shipping", "shipped", "shipment*", "courier*", "parcel*", "package never", "tracking", "arriv*", "driver*", "dispatch*", "carrier*", "customs", "doorstep", "in transit", "postman", "days late", "came late", "where my package", "where is my package", "my package", "waiting for my order", "still waiting for my parcel",
				"快递", "快遞", "物流", "发货", "發貨", "送货", "送貨", "配送", "运费", "運費", "派送", "包裹", "送达", "到货", "到貨", "签收", "迟到", "没收到货", "还没收到", "還沒收到", "寄", "海关", "骑手",
			},
			Unless: []string{"寄托"},
		},
		{
			Topic: "quality",
			Words: []string{
				"quality", "broke", "broken", "breaks", "fell apart", "falls apart", "falling apart", "defect*", "faulty", "flimsy", "durable", "well made", "poorly made", "cheaply made", "scratch*", "stopped working", "torn", "ripped", "material*", "fabric*", "fake", "counterfeit", "crack*", "smell*", "worn out", "caught fire", "rash", "allergic", "sharp edge*", "sturdy", "solid", "lamp is", "leaks", "leaking", "damaged", "fades", "faded", "rust*", "battery",
				"质量", "質量", "品质", "品質", "做工", "坏了", "壞了", "破了", "瑕疵", "次品", "假货", "假貨", "正品", "掉色", "褪色", "起球", "材质", "材質", "面料", "异味", "味道很", "耐用", "结实", "开裂", "裂了", "漏水", "电池", "不耐", "线头", "碎了", "坏的", "冒烟", "起火", "过敏", "触电", "划痕", "生锈", "用了几天就", "质感",
			},
			Unless: []string{"压坏了"},
		},
		{
			Topic: "price",
			Words: []string{
				"price*", "expensive", "overpriced", "cheap", "cheaper", "pricey", "value for money", "good value", "cost", "costs", "affordable", "discount*", "bargain", "rip-off", "rip off", "ripoff", "worth the money", "worth it", "not worth", "sale price",
				"价格", "價格", "太贵", "太貴", "贵了", "很贵", "偏贵", "便宜", "性价比", "性價比", "降价", "降價", "涨价", "漲價", "实惠", "實惠", "划算", "不值", "有点贵", "值得买", "优惠", "優惠", "打折", "折扣", "差价", "物超所值", "价位",
			},
			Unless: []string{"优惠券", "優惠券", "feels cheap", "looks cheap"},
		},
		{
			Topic: "payment",
			Words: []string{
				"payment*", "charged", "overcharged", "charge on my", "double charge*", "credit card", "my card", "invoice*", "billing", "bill", "paypal", "apple pay", "installment*", "transaction*", "debited", "pay by", "bank transfer", "paying",
				"付款", "支付", "扣款", "扣钱", "扣了", "扣費", "扣费", "重复扣", "发票", "發票", "账单", "帳單", "信用卡", "银行卡", "微信支付", "支付宝", "分期", "付了钱", "刷卡", "多收",
			},
		},
		{
			Topic: "returns",
			Words: []string{
				"return", "returns", "returned", "returning", "refund*", "money back", "exchange", "exchanged", "send it back", "sent it back", "return label", "replacement",
				"退货", "退貨", "退款", "换货", "換貨", "退换", "退換", "退钱", "退錢", "退回", "七天无理由", "补发", "補發", "换新",
			},
		},
		{
			Topic: "support",
			Words: []string{
				"support", "customer service", "helpdesk", "help desk", "agent*", "representative*", "staff", "hotline", "call back", "call centre", "call center", "on hold", "chatbot", "bot", "your team", "nobody answers", "no one answers", "no reply", "no response", "never replied", "helpful", "unhelpful", "polite", "rude", "service was", "phone line", "emails", "answered my question", "assistant", "adviser", "advisor",
				"客服", "服务态度", "服務態度", "态度", "態度", "店员", "店員", "工作人员", "售后", "售後", "售前", "人工", "机器人", "機器人", "没人理", "不理人", "没人接", "不回复", "没有回复", "电话打不通", "服务很", "服務很", "服务太", "耐心", "导购", "踢皮球", "回复很", "没人回",
			},
			Unless: []string{"人工智能"},
		},
		{
			Topic: "app",
			Words: []string{
				"app", "apps", "website", "web site", "site", "page", "pages", "checkout", "log in", "login", "logging in", "log-in", "password*", "crash*", "bug", "bugs", "buggy", "loading", "loads", "load", "freezes", "froze", "navigat*", "search", "filter*", "interface", "button*", "update", "screen", "dark mode", "notifications",
				"网站", "網站", "网页", "網頁", "页面", "頁面", "闪退", "閃退", "登录", "登錄", "登陆", "登入", "密码", "密碼", "卡顿", "卡死", "死机", "加载", "界面", "介面", "小程序", "软件", "軟件", "更新", "搜索", "按钮", "app", "验证码", "打不开", "崩溃了", "推送", "系统",
			},
			Unless: []string{"update on my order", "update about my"},
		},
		{
			Topic: "order",
			Words: []string{
				"wrong item", "wrong order", "wrong colour", "wrong color", "wrong size", "wrong product", "wrong one", "missing item*", "items missing", "item was missing", "was missing", "incomplete", "not what i ordered", "cancelled my order", "canceled my order", "cancel my order", "order was cancelled", "order was canceled", "change my order", "different from the picture", "took my order", "only received", "not as described", "order confirmation", "half of my order",
				"发错", "發錯", "错发", "寄错", "少发", "漏发", "漏發", "少了一", "缺货没", "取消订单", "取消訂單", "订单被取消", "改订单", "改地址", "与描述不符", "描述不符", "和图片不一样", "图片不符", "货不对板", "不是我订的", "缺件", "下单", "色差",
			},
		},
		{
			Topic: "stock",
			Words: []string{
				"out of stock", "sold out", "in stock", "back in stock", "restock*", "availability", "unavailable", "selection", "range of", "more colours", "more colors", "more choice", "wide choice", "variety", "backorder*", "assortment",
				"缺货", "缺貨", "没货", "沒貨", "断货", "斷貨", "补货", "補貨", "售罄", "库存", "庫存", "选择少", "选择多", "种类", "種類", "品种", "款式", "现货", "无货",
			},
		},
		{
			Topic: "packaging",
			Words: []string{
				"packag*", "packed", "wrapp*", "the box", "boxes", "cardboard", "bubble wrap", "plastic", "crushed", "unboxing",
				"包装", "包裝", "盒子", "箱子", "纸箱", "压坏", "压扁", "压变形", "泡沫", "礼盒", "塑料袋",
			},
			Unless: []string{"package never", "package arrived", "package hasn't", "my package", "was in the box"},
		},
		{
			Topic: "fit",
			Words: []string{
				"too small", "too large", "too big", "too tight", "too long", "too short", "too wide", "too narrow", "too loose", "fits", "that fit", "doesn't fit", "does not fit", "didn't fit", "fit perfectly", "fit well", "fit is", "sizing", "size", "size chart", "runs small", "runs large",
				"尺码", "尺碼", "尺寸", "偏小", "偏大", "太小", "太大", "太紧", "太短", "太长", "合身", "码数", "大一号", "小一号", "合脚", "挤脚", "不合适",
			},
			Unless: []string{"差距太大", "压力太大", "声音太大", "差别太大", "wrong size", "声音太小", "字太小", "等太长", "my size", "错了尺寸"},
		},
		{
			Topic: "loyalty",
			Words: []string{
				"points", "loyalty", "reward*", "membership", "member", "members", "voucher*", "coupon*", "promo code", "promotion*", "gold status", "tier", "cashback", "gift card",
				"积分", "積分", "会员", "會員", "优惠券", "優惠券", "代金券", "红包", "满减", "活动规则", "权益", "等级", "礼品卡", "兑换",
			},
		},
		{
			Topic: "privacy",
			Words: []string{
				"privacy", "personal data", "my data", "gdpr", "spam", "unsubscribe*", "newsletter*", "hacked", "data breach", "leaked", "delete my account", "marketing emails", "sold my",
				"隐私", "隱私", "个人信息", "個人資料", "泄露", "洩露", "骚扰", "騷擾", "垃圾短信", "垃圾邮件", "退订", "注销账号", "注销账户", "盗号", "被盗",
			},
		},

		// The priority.
		{
			Priority: "high",
			Words: []string{
				"lawyer*", "legal action", "sue", "suing", "court", "police", "fraud*", "scam*", "stolen", "theft", "consumer protection", "ombudsman", "trading standards", "chargeback",
				"never again", "never buy", "never order", "never shop", "last time i", "won't be back", "not coming back", "cancel my account", "close my account", "delete my account", "switching to", "going to a competitor", "taking my business",
				"injur*", "burned", "burnt", "caught fire", "on fire", "electric shock", "allergic", "rash", "poison*", "hospital", "unsafe", "danger*", "hurt my", "cut my", "choking",
				"hacked", "data breach", "leaked", "charged twice", "charged me twice", "double charged", "double charge*", "overcharged",
				"third time", "fourth time", "fifth time", "three times", "four times", "five times", "several times", "weeks and", "urgent*", "immediately", "asap", "counterfeit", "unacceptable",
				"still no refund", "no refund", "where is my money", "want my money back", "hasn't been refunded", "never received", "never arrived",
				"律师", "律師", "起诉", "报警", "報警", "投诉到", "12315", "消协", "消费者协会", "工商", "诈骗", "詐騙", "骗子", "騙子", "欺诈", "欺骗", "被骗",
				"再也不", "不会再买", "不會再買", "不会再来", "最后一次", "拉黑", "卸载", "注销账号", "注销账户", "换别家",
				"受伤", "受傷", "烫伤", "起火", "着火", "冒烟", "爆炸", "触电", "漏电", "过敏", "過敏", "中毒", "医院", "危险", "危險", "拉肚子",
				"盗号", "被盗", "泄露", "洩露", "重复扣", "扣了两次", "扣了两遍", "多扣", "多收", "马上退", "立刻", "立即", "紧急", "尽快处理", "赶紧",
				"第三次", "第四次", "三次", "好几次", "多次", "一直不退", "还不退款", "没有退款", "不给退", "拒绝退", "没收到退款", "退款还没", "假货", "假貨",
			},
			Unless: []string{"no danger", "urgent care", "没有危险"},
		},
		{
			Priority: "medium",
			Words: []string{
				"late", "later than", "delay*", "slow", "slowly", "failed", "fails", "not accepted", "rejected", "faded", "fades", "still have not", "still haven't", "did not get", "didn't get", "did not receive", "didn't receive", "only received", "different from the picture", "doesn't fit", "does not fit", "didn't fit", "cancelled my order", "stop sending", "worried", "barely", "broken", "broke", "breaks", "faulty", "defect*", "damaged", "doesn't work", "does not work", "didn't work", "not working", "stopped working", "wrong", "missing", "problem*", "issue*", "error*", "crash*", "bug", "bugs", "buggy",
				"waiting", "waited", "lost", "can't", "cannot", "couldn't", "unable", "refused", "rude", "unhelpful", "no reply", "no response", "nobody answers", "no one answers", "never replied", "ignored", "disappoint*", "terrible", "awful", "horrible", "worst", "poor", "bad", "confus*", "difficult", "complicated", "fell apart", "falling apart", "falls apart", "torn", "ripped", "scratch*", "crack*", "leaks", "leaking", "expired", "freezes", "froze", "spam", "overpriced", "too small", "too large", "too big", "too tight", "too short", "too long", "frustrat*", "annoy*", "angry", "furious", "unhappy", "upset", "crushed", "on hold", "fake", "not as described", "hasn't arrived", "has not arrived", "smells", "incomplete", "cheated", "lied", "nightmare", "disgust*",
				"慢", "迟到", "没有到账", "没到账", "收不到", "登录不了", "转不了", "偏小", "偏大", "穿不进", "不值", "太贵", "坏", "碎了", "担心", "不安全", "取消订单", "订单被取消", "延迟", "延誤", "迟迟", "晚了", "坏了", "壞了", "坏的", "破了", "瑕疵", "次品", "错了", "发错", "發錯", "寄错", "少发", "漏发", "漏發", "少了", "问题", "問題", "错误", "錯誤", "闪退", "閃退", "卡顿", "卡死", "打不开", "登不上", "无法", "無法", "不能用", "用不了", "失败", "没收到", "沒收到", "还没收到", "没人", "不理", "不回复", "没有回复", "打不通", "态度差", "态度恶劣", "态度很差", "差评", "差評", "很差", "太差", "失望", "生气", "气死", "糟糕", "垃圾", "难用", "难吃", "不好用", "掉色", "褪色", "起球", "异味", "开裂", "裂了", "漏水", "压坏", "压扁", "破损", "过期", "太小", "太大", "太紧", "不合适", "不符", "不一样", "骚扰", "骗人", "上当", "丢了", "丢失", "等了", "过分", "敷衍", "踢皮球", "无语", "崩溃", "恶心", "色差", "失效", "缺件", "变形", "线头", "不退", "断了", "太窄", "太宽",
			},
			// In feedback what is denied is mostly something that went wrong.
			Patterns: []string{
				`\b(?:do|does|did|has|have|had|is|was|were|are|could|would|will)(?:n't| not)\b`, `\b(?:although|despite|nothing|instead of|declined|snapped|unfortunately)\b`,
				`不(?:了|能|行|好|舒服|方便|对|到)`, `(?:还|還|一直|都|也)(?:没|沒|不)`,
			},
			Unless: []string{
				"no problem*", "no issue*", "without any problem*", "without any issue*", "without problem*", "not bad", "never late", "not late", "no delay*", "can't wait", "cannot wait", "can't recommend it enough", "cannot recommend it enough", "can't fault", "not disappointed", "wasn't disappointed", "never disappoint*", "didn't disappoint", "couldn't be happier", "couldn't be better", "no worries", "cannot complain", "can't complain", "no complaints", "would not", "wouldn't", "have not regretted", "haven't regretted",
				"问题很快解决", "问题很快就解决", "问题解决", "没问题", "没有问题", "沒問題", "沒有問題", "没什么问题", "没任何问题", "没有任何问题", "不慢", "没有失望", "没让我失望", "从不失望", "解决了问题", "解决了我的问题", "没有色差", "没有异味", "没异味", "没色差", "慢慢", "一点不慢", "不错", "忍不住", "少不了", "想不到", "了不起", "不好意思", "爱不释手", "没关系",
			},
		},
	}
}
