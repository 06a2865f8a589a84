package demo

type product struct {
	sku, name, category string
	cents               int
}

var products = [...]product{
	{"LMP-01", "Reading Lamp", "Lighting", 4900},
	{"LMP-02", "Floor Lamp", "Lighting", 12900},
	{"LMP-03", "Bedside Light", "Lighting", 3450},
	{"CHR-01", "Oak Chair", "Furniture", 14900},
	{"CHR-02", "Folding Chair", "Furniture", 5900},
	{"TBL-01", "Kitchen Table", "Furniture", 38900},
	{"SHF-01", "Wall Shelf", "Furniture", 7990},
	{"MUG-01", "Stoneware Mug", "Kitchen", 1450},
	{"MUG-02", "Travel Mug", "Kitchen", 2490},
	{"PAN-01", "Cast Iron Pan", "Kitchen", 6900},
	{"KNF-01", "Chef's Knife", "Kitchen", 8950},
	{"TEA-01", "Teapot", "Kitchen", 3990},
	{"BLK-01", "Wool Blanket", "Textiles", 8900},
	{"TWL-01", "Bath Towel", "Textiles", 2490},
	{"CUS-01", "Linen Cushion", "Textiles", 3290},
	{"RUG-01", "Cotton Rug", "Textiles", 15900},
	{"VAS-01", "Glass Vase", "Decoration", 2790},
	{"CND-01", "Beeswax Candle", "Decoration", 1250},
	{"FRM-01", "Picture Frame", "Decoration", 1990},
	{"CLK-01", "Wall Clock", "Decoration", 4590},
	{"PLT-01", "Plant Pot", "Garden", 1850},
	{"WTR-01", "Watering Can", "Garden", 2950},
	{"BCH-01", "Garden Bench", "Garden", 24900},
	{"GFT-01", "Gift Card", "Gifts", 5000},
}

var categories = [...]string{"Lighting", "Furniture", "Kitchen", "Textiles", "Decoration", "Garden", "Gifts"}

var pages = [...][2]string{
	{"/", "Home"},
	{"/sale", "Sale"},
	{"/stories", "Stories"},
	{"/help", "Help"},
	{"/about", "About us"},
	{"/delivery", "Delivery"},
	{"/account", "Account"},
	{"/stores", "Stores"},
}

var searches = [...]string{"lamp", "blanket", "gift", "mug", "oak table", "vase", "kitchen knife", "garden", "rug", "christmas"}

type device struct {
	library, version string // of the tracking library
	agent            string
}

// The first two are browsers on a desk, then browsers on a phone, then apps.
var devices = [...]device{
	{"analytics.js", "next-1.70.0", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0"},
	{"analytics.js", "next-1.70.0", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/17.5"},
	{"analytics.js", "next-1.70.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5) Safari/17.5"},
	{"analytics.js", "next-1.70.0", "Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/126.0"},
	{"analytics-swift", "1.5.11", "Shop/4.2 (iPhone; iOS 17.5)"},
	{"analytics-kotlin", "1.16.3", "Shop/4.2 (Android 14; SM-S921B)"},
}

const firstApp = 4

type campaign struct{ source, medium, name, referrer string }

// The weights say how many visits of a hundred come through a campaign.
var campaigns = [...]struct {
	campaign
	weight int
}{
	{campaign{}, 38}, // typed in or a bookmark
	{campaign{"google", "organic", "", "https://www.google.com/"}, 24},
	{campaign{"google", "cpc", "brand", "https://www.google.com/"}, 12},
	{campaign{"newsletter", "email", "weekly", ""}, 12},
	{campaign{"instagram", "social", "stories", "https://www.instagram.com/"}, 8},
	{campaign{"facebook", "social", "retargeting", "https://www.facebook.com/"}, 6},
}

var firstNames = [...]string{
	"Ada", "Alan", "Barbara", "Blaise", "Carl", "Dorothy", "Edsger", "Emmy", "Frances", "Grace", "Hedy", "Ida", "Joan",
	"John", "Karen", "Katherine", "Leonhard", "Lise", "Maria", "Mary", "Niels", "Rosalind", "Sofia", "Srinivasa", "Tim", "Vera",
}

var lastNames = [...]string{
	"Abel", "Bauer", "Chen", "Diaz", "Eriksen", "Fischer", "Garcia", "Hansen", "Ito", "Jansen", "Kowalski", "Lopez", "Moreau",
	"Nguyen", "Okafor", "Patel", "Quinn", "Rossi", "Silva", "Tanaka", "Ueda", "Varga", "Weber", "Xu", "Yilmaz", "Zimmer",
}

var zhSurnames = [...]string{"王", "李", "张", "刘", "陈", "杨", "黄", "赵", "吴", "周"}

var zhGivenNames = [...]string{"伟", "芳", "秀英", "敏", "静", "磊", "洋", "艳", "勇", "娜", "子涵", "浩然", "雨桐", "思远"}

// The weights say how many customers of a hundred are at home where. The shop
// has branches that sell for pounds and euros; others pay in dollars.
var countries = [...]struct {
	locale, currency string
	weight           int
}{
	{"en-US", "USD", 52},
	{"zh-CN", "USD", 20},
	{"en-GB", "GBP", 10},
	{"de-DE", "EUR", 7},
	{"fr-FR", "EUR", 5},
	{"es-ES", "EUR", 3},
	{"nl-NL", "EUR", 3},
}

// A company is named by two words.
var companyNames = [2][8]string{
	{"North", "Harbour", "Green", "Silver", "Old Town", "River", "Sunrise", "Maple"},
	{"Hotels", "Interiors", "Offices", "Cafés", "Catering", "Studios", "Events", "Clinics"},
}

var industries = [...]string{"hospitality", "retail", "health", "events", "architecture"}
