package warehouse_test

import (
	"os"
	"testing"

	"sojourn/warehouse/chdb"
)

func TestMain(m *testing.M) {
	chdb.ChildMain()
	os.Exit(m.Run())
}
