package storebench
import ("testing";"syscall";"time";"os";"runtime/pprof";"runtime")
func cpu() float64 { var r syscall.Rusage; syscall.Getrusage(0,&r); return float64(r.Utime.Nano()+r.Stime.Nano())/1e3 }
func TestZZ(t *testing.T){
 b:=&bench{Config: Config{Event: shopEvent}.withDefaults()}
 if os.Getenv("CALLERS")=="1" { b.BatchCallers=1 }
 if os.Getenv("CALLERS")=="8" { b.BatchCallers=8 }
 if err:=b.open(t.TempDir()); err!=nil{t.Fatal(err)}
 held:=1000000
 for b.made<held { l:=b.next(100000); if _,err:=b.store.AppendMany(t.Context(), l.parts);err!=nil{t.Fatal(err)}; b.rawBatch(l,0,len(l.values)) }
 var f *os.File
 side:=os.Getenv("SIDE")
 if p:=os.Getenv("PROF");p!=""{ f,_=os.Create(p) }
 for round:=range 3 {
 for _,m:=range []string{"writers","batches"} {
  n:=200000; if m=="batches" {n=400000}
  if w:=os.Getenv("MODE"); w!="" && w!=m {continue}
  l:=b.next(n)
  var sc,rc float64; var sd,rd time.Duration
  run:=func(step func() error) (float64,time.Duration){ b.store.FlushTables(t.Context()); b.raw.Flush(); runtime.GC(); c:=cpu(); s:=time.Now(); if err:=step();err!=nil{t.Fatal(err)}; d:=time.Since(s); 
     return (cpu()-c)/float64(n), d }
  if side!="raw" { if f!=nil&&round==0{pprof.StartCPUProfile(f)}
  sc,sd=run(func() error { c0:=b.store.Stats().Commits; t0:=time.Now(); var err error; if m=="writers" {err=b.storeWriters(t.Context(),l)} else {err=b.storeBatches(t.Context(),l)}; if err!=nil{return err}; c1:=b.store.Stats().Commits-c0; d1:=time.Since(t0); err=b.store.FlushIndexes(t.Context()); t.Logf("   %d commits, %d events each, %v each; flush %v", c1, n/int(c1), d1/time.Duration(c1), time.Since(t0)-d1); return err}) }
  if side!="store" { if f!=nil&&round==0{pprof.StartCPUProfile(f)}
  rc,rd=run(func() error { if m=="writers" {return b.rawWriters(l)}; return b.rawCallers(l)}) }
  t.Logf("%s: store %.2f us cpu, %.0f/s; raw %.2f us cpu, %.0f/s; cpu ratio %.2f, time ratio %.2f", m, sc, float64(n)/sd.Seconds(), rc, float64(n)/rd.Seconds(), rc/sc, float64(rd)/float64(sd))
 }}
 if f!=nil{pprof.StopCPUProfile()}
 b.close()
}
