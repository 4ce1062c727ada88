// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Marks the packets between chosen processes and chosen endpoints: what the processes' sockets send
// there, and what comes back to those sockets. Which socket a packet belongs to is asked of the
// kernel for each packet, so that a neighbour with the same user, group and address is told apart.
// Loaded and held by pair_marker.cc; everything here goes when its descriptors close.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
//
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// An address and a port in network order; an IPv4 address is mapped into IPv6, and all zeros are
// every address.
struct place {
  __u8 address[16];
  __u16 port;
  __u16 unused;
};

// Pairs are bits: pair i is bit i of a process, of a socket and of an endpoint. A packet belongs to
// a pair when its socket and its endpoint have a bit in common.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u32);  // process (thread group)
  __type(value, __u64);
} callers SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __type(key, struct place);
  __type(value, __u64);
} endpoints SEC(".maps");

// Lives and dies with each socket, and all of it with this map.
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u64);
} sockets SEC(".maps");

const volatile __u32 mark_bit = 0;
// Where the kernel's task_struct has them. Found by the engine, as this takes some milliseconds.
const volatile __u32 pid_offset = 0;
const volatile __u32 tgid_offset = 0;
// CLOCK_BOOTTIME. Whatever becomes of the holder, nothing is marked after it.
volatile __u64 deadline_ns = 0;

static __always_inline bool over(void) {
  return bpf_ktime_get_boot_ns() >= deadline_ns;
}

// A socket belongs to whoever made it.
SEC("cgroup/sock_create")
int enter_socket(struct bpf_sock *socket) {
  const __u32 process = bpf_get_current_pid_tgid() >> 32;
  const __u64 *pairs = bpf_map_lookup_elem(&callers, &process);
  if (!pairs || over()) return 1;
  __u64 value = *pairs;
  bpf_sk_storage_get(&sockets, socket, &value, BPF_SK_STORAGE_GET_F_CREATE);
  return 1;
}

// Children belong to their parent's pairs. Others are taken out, for theirs may be the number of
// one that has ended.
SEC("raw_tp/sched_process_fork")
int follow_child(struct bpf_raw_tracepoint_args *arguments) {
  const __u32 parent_process = bpf_get_current_pid_tgid() >> 32;
  const char *parent = (const char *)arguments->args[0];
  const char *child = (const char *)arguments->args[1];
  __u32 check = 0;
  __u32 thread = 0;
  __u32 process = 0;
  bpf_probe_read_kernel(&check, sizeof check, parent + tgid_offset);
  bpf_probe_read_kernel(&thread, sizeof thread, child + pid_offset);
  bpf_probe_read_kernel(&process, sizeof process, child + tgid_offset);
  if (check != parent_process || process != thread) return 0;  // wrong offsets, or a thread
  const __u64 *pairs = bpf_map_lookup_elem(&callers, &parent_process);
  if (pairs) {
    __u64 value = *pairs;
    bpf_map_update_elem(&callers, &process, &value, BPF_ANY);
  } else {
    bpf_map_delete_elem(&callers, &process);
  }
  return 0;
}

struct packet {
  struct place source;
  struct place destination;
  struct bpf_sock_tuple tuple;
  __u32 tuple_size;
  __u8 protocol;
};

static __always_inline bool read_ports(struct __sk_buff *skb, __u32 offset,
                                       struct packet *packet) {
  __u16 ports[2];
  if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP) return false;
  if (bpf_skb_load_bytes(skb, offset, ports, sizeof ports) < 0) return false;
  packet->source.port = ports[0];
  packet->destination.port = ports[1];
  return true;
}

static __always_inline bool read_four(struct __sk_buff *skb, struct packet *packet) {
  struct iphdr header;
  if (bpf_skb_load_bytes(skb, 0, &header, sizeof header) < 0) return false;
  if (header.frag_off & bpf_htons(0x1fff)) return false;  // no ports in it
  packet->protocol = header.protocol;
  if (!read_ports(skb, header.ihl * 4, packet)) return false;
  packet->source.address[10] = packet->source.address[11] = 0xff;
  packet->destination.address[10] = packet->destination.address[11] = 0xff;
  __builtin_memcpy(&packet->source.address[12], &header.saddr, 4);
  __builtin_memcpy(&packet->destination.address[12], &header.daddr, 4);
  packet->tuple.ipv4.saddr = header.saddr;
  packet->tuple.ipv4.daddr = header.daddr;
  packet->tuple.ipv4.sport = packet->source.port;
  packet->tuple.ipv4.dport = packet->destination.port;
  packet->tuple_size = sizeof packet->tuple.ipv4;
  return true;
}

static __always_inline bool read_six(struct __sk_buff *skb, struct packet *packet) {
  struct ipv6hdr header;
  if (bpf_skb_load_bytes(skb, 0, &header, sizeof header) < 0) return false;
  packet->protocol = header.nexthdr;
  if (!read_ports(skb, sizeof header, packet)) return false;
  __builtin_memcpy(packet->source.address, &header.saddr, 16);
  __builtin_memcpy(packet->destination.address, &header.daddr, 16);
  __builtin_memcpy(packet->tuple.ipv6.saddr, &header.saddr, 16);
  __builtin_memcpy(packet->tuple.ipv6.daddr, &header.daddr, 16);
  packet->tuple.ipv6.sport = packet->source.port;
  packet->tuple.ipv6.dport = packet->destination.port;
  packet->tuple_size = sizeof packet->tuple.ipv6;
  return true;
}

// The pairs that the endpoint belongs to, by its own address or by every address.
static __always_inline __u64 pairs_at(const struct place *place) {
  struct place any = {.port = place->port};
  const __u64 *exact = bpf_map_lookup_elem(&endpoints, place);
  const __u64 *wide = bpf_map_lookup_elem(&endpoints, &any);
  return (exact ? *exact : 0) | (wide ? *wide : 0);
}

static __always_inline bool sent_by_caller(struct __sk_buff *skb, __u64 pairs) {
  struct bpf_sock *socket = skb->sk;
  if (!socket) return false;
  socket = bpf_sk_fullsock(socket);
  if (!socket) return false;
  const __u64 *own = bpf_sk_storage_get(&sockets, socket, 0, 0);
  return own && (*own & pairs);
}

// Asks for the socket that will get this packet.
static __always_inline bool goes_to_caller(struct __sk_buff *skb, struct packet *packet,
                                           __u64 pairs) {
  bool hit = false;
  struct bpf_sock *socket;
  if (packet->protocol == IPPROTO_TCP) {
    if (packet->tuple_size == sizeof packet->tuple.ipv4)
      socket = bpf_sk_lookup_tcp(skb, &packet->tuple, sizeof packet->tuple.ipv4,
                                 BPF_F_CURRENT_NETNS, 0);
    else
      socket = bpf_sk_lookup_tcp(skb, &packet->tuple, sizeof packet->tuple.ipv6,
                                 BPF_F_CURRENT_NETNS, 0);
  } else {
    if (packet->tuple_size == sizeof packet->tuple.ipv4)
      socket = bpf_sk_lookup_udp(skb, &packet->tuple, sizeof packet->tuple.ipv4,
                                 BPF_F_CURRENT_NETNS, 0);
    else
      socket = bpf_sk_lookup_udp(skb, &packet->tuple, sizeof packet->tuple.ipv6,
                                 BPF_F_CURRENT_NETNS, 0);
  }
  if (!socket) return false;
  const __u64 *own = bpf_sk_storage_get(&sockets, socket, 0, 0);
  hit = own && (*own & pairs);
  bpf_sk_release(socket);
  return hit;
}

SEC("cgroup_skb/egress")
int mark_packet(struct __sk_buff *skb) {
  struct packet packet = {};
  bool readable = false;
  if (over()) return 1;
  if (skb->protocol == bpf_htons(ETH_P_IP)) readable = read_four(skb, &packet);
  if (skb->protocol == bpf_htons(ETH_P_IPV6)) readable = read_six(skb, &packet);
  if (!readable) return 1;
  const __u64 requests = pairs_at(&packet.destination);
  if (requests && sent_by_caller(skb, requests)) {
    skb->mark |= mark_bit;
    return 1;
  }
  const __u64 replies = pairs_at(&packet.source);
  if (replies && goes_to_caller(skb, &packet, replies)) skb->mark |= mark_bit;
  return 1;
}

// bpf_probe_read_kernel, by which the fork's processes are read, is for programs under the GPL.
char license_of_this[] SEC("license") = "GPL";
