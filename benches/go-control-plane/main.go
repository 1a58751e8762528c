// The control plane that the operator's is measured against: go-control-plane's own delta ADS server over its linear
// caches, which is what its authors recommend for many resources that change one at a time.
//
// It serves the resources of a file, a serialized DiscoveryResponse, and then does what its standard input says, one
// command a line: "add BASE64" puts the Cluster of a serialized Any into the cache, "remove NAME" takes one out. It
// answers each with the nanoseconds from just before the cache is changed to Envoy's ACK of the response that tells of
// it. Its first line is "listening ADDRESS", its second comes when an Envoy has everything.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	// Types that only occur inside an Any of a listener or a route have to be known, to be read at all.
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

func main() {
	file := flag.String("resources", "", "file with a serialized DiscoveryResponse")
	flag.Parse()
	if err := run(*file); err != nil {
		log.Fatal(err)
	}
}

func run(file string) error {
	caches, err := load(file)
	if err != nil {
		return err
	}
	acks := newAcks(len(caches[resource.ClusterType].GetResources()))
	kind := func(typeURL string) string { return typeURL }
	mux := &cache.MuxCache{
		Classify:      func(request *cache.Request) string { return kind(request.GetTypeUrl()) },
		ClassifyDelta: func(request *cache.DeltaRequest) string { return kind(request.GetTypeUrl()) },
		Caches:        map[string]cache.Cache{},
	}
	for typeURL, linear := range caches {
		mux.Caches[typeURL] = linear
	}
	callbacks := server.CallbackFuncs{
		StreamDeltaResponseFunc: acks.sent,
		StreamDeltaRequestFunc:  acks.received,
	}
	plane := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	discovery.RegisterAggregatedDiscoveryServiceServer(plane, server.NewServer(context.Background(), mux, callbacks))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { log.Fatal(plane.Serve(listener)) }()
	fmt.Println("listening", listener.Addr())
	<-acks.complete
	fmt.Println("complete")
	return obey(caches[resource.ClusterType], acks)
}

// One linear cache a type, filled from the file.
func load(file string) (map[string]*cache.LinearCache, error) {
	bytes, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all discovery.DiscoveryResponse
	if err := proto.Unmarshal(bytes, &all); err != nil {
		return nil, err
	}
	resources := map[string]map[string]types.Resource{
		resource.ClusterType: {}, resource.ListenerType: {}, resource.RouteType: {}, resource.SecretType: {},
	}
	for _, packed := range all.GetResources() {
		message, err := packed.UnmarshalNew()
		if err != nil {
			return nil, err
		}
		resources[packed.GetTypeUrl()][cache.GetResourceName(message)] = message
	}
	caches := map[string]*cache.LinearCache{}
	for typeURL, initial := range resources {
		caches[typeURL] = cache.NewLinearCache(typeURL, cache.WithInitialResources(initial))
	}
	return caches, nil
}

func obey(clusters *cache.LinearCache, acks *acks) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		command, argument, _ := strings.Cut(lines.Text(), " ")
		var name string
		var change func() error
		switch command {
		case "add":
			added, err := decode(argument)
			if err != nil {
				return err
			}
			name = added.GetName()
			change = func() error { return clusters.UpdateResource(name, added) }
		case "remove":
			name = argument
			change = func() error { return clusters.DeleteResource(name) }
		default:
			return fmt.Errorf("unknown command %q", command)
		}
		acked := acks.wait(name)
		begin := time.Now()
		if err := change(); err != nil {
			return err
		}
		fmt.Println((<-acked).Sub(begin).Nanoseconds())
	}
	return lines.Err()
}

func decode(text string) (*cluster.Cluster, error) {
	bytes, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	var packed anypb.Any
	if err := proto.Unmarshal(bytes, &packed); err != nil {
		return nil, err
	}
	message, err := packed.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	return message.(*cluster.Cluster), nil
}

// acks finds the request that acknowledges the response with a certain cluster.
type acks struct {
	mutex    sync.Mutex
	name     string
	nonce    string
	acked    chan time.Time
	missing  int
	first    map[string]int
	complete chan struct{}
}

func newAcks(clusters int) *acks {
	return &acks{missing: clusters, first: map[string]int{}, complete: make(chan struct{})}
}

func (a *acks) wait(name string) <-chan time.Time {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.name, a.nonce, a.acked = name, "", make(chan time.Time, 1)
	return a.acked
}

func (a *acks) sent(_ int64, _ *discovery.DeltaDiscoveryRequest, response *discovery.DeltaDiscoveryResponse) {
	if response.GetTypeUrl() != resource.ClusterType {
		return
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.acked == nil {
		a.first[response.GetNonce()] = len(response.GetResources())
		return
	}
	for _, resource := range response.GetResources() {
		if resource.GetName() == a.name {
			a.nonce = response.GetNonce()
		}
	}
	for _, removed := range response.GetRemovedResources() {
		if removed == a.name {
			a.nonce = response.GetNonce()
		}
	}
}

func (a *acks) received(_ int64, request *discovery.DeltaDiscoveryRequest) error {
	now := time.Now()
	if request.GetTypeUrl() != resource.ClusterType || request.GetResponseNonce() == "" {
		return nil
	}
	if detail := request.GetErrorDetail(); detail != nil {
		log.Fatalf("Envoy refuses: %s", detail.GetMessage())
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if count, known := a.first[request.GetResponseNonce()]; known {
		delete(a.first, request.GetResponseNonce())
		if a.missing -= count; a.missing == 0 {
			close(a.complete)
		}
	} else if a.nonce != "" && request.GetResponseNonce() == a.nonce {
		a.acked <- now
		a.nonce = ""
	}
	return nil
}
