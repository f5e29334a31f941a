// A robot in C++ that asks a policy over a local unix socket: no library, no Python.
//   c++ -std=c++17 -o robot robot.cpp && ./robot /run/openpi-flash.sock
// Each message goes in a frame: its length and a number of yours, little-endian, 4 bytes each.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

static void fail(const char* what) { std::perror(what); std::exit(1); }

static void send_all(int fd, const std::string& bytes) {
  for (size_t sent = 0; sent < bytes.size();) {
    ssize_t n = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) fail("send");
    sent += static_cast<size_t>(n);
  }
}

static std::string receive(int fd, size_t size) {
  std::string bytes(size, '\0');
  if (size && recv(fd, bytes.data(), size, MSG_WAITALL) != static_cast<ssize_t>(size)) fail("recv");
  return bytes;
}

static uint32_t number(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

static std::string little_endian(uint32_t value) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> 8 * i);
  return bytes;
}

// One request and its answer; the first byte of a request is its kind, of an answer 0 if all is well.
static std::string ask(int fd, uint32_t id, const std::string& message) {
  send_all(fd, little_endian(static_cast<uint32_t>(message.size())) + little_endian(id) + message);
  std::string header = receive(fd, 8), answer = receive(fd, number(header, 0));
  bool is_good = number(header, 4) == id && !answer.empty() && answer[0] == 0;
  if (!is_good) std::fprintf(stderr, "request %u was refused: %s\n", id, answer.c_str() + 1);
  return is_good ? answer.substr(1) : "";
}

int main(int count, char** arguments) {
  if (count != 2) { std::fprintf(stderr, "usage: %s SOCKET\n", arguments[0]); return 2; }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, arguments[1], sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail(arguments[1]);

  send_all(fd, "openpi-flash/1\n");
  uint32_t id = 0;
  std::string metadata;
  // hello, an empty map: refused until the server behind the socket is ready
  while ((metadata = ask(fd, id++, "\x01\x80")).empty()) usleep(200'000);
  std::printf("metadata: %zu bytes of msgpack\n", metadata.size());

  // {"state": np.float32([0.0, 0.5, 1.0])}, as numpy arrays travel
  const float state[3] = {0.0F, 0.5F, 1.0F};
  std::string observation = "\x81\xa5state\x84\xc4\x0b__ndarray__\xc3\xc4\x04" "data\xc4\x0c";
  observation.append(reinterpret_cast<const char*>(state), sizeof state);
  observation += "\xc4\x05" "dtype\xa3<f4\xc4\x05shape\x91\x03";
  std::string answer = ask(fd, id, "\x02" + observation);
  if (answer.empty()) return 1;
  std::printf("answer: %zu bytes of msgpack\n", answer.size());
  std::fwrite(answer.data(), 1, answer.size(), stdout);
  close(fd);
}
