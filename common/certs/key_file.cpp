#include "certs/key_file.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace strata::certs {
namespace {

constexpr off_t kKeyBytesMax = 16384;

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  [[nodiscard]] int get() const { return number_; }

 private:
  int number_;
};

// Text that is wiped when it goes.
class SecretText {
 public:
  explicit SecretText(std::size_t size) : text_(size, '\0') {}
  SecretText(const SecretText&) = delete;
  SecretText& operator=(const SecretText&) = delete;
  ~SecretText() { OPENSSL_cleanse(text_.data(), text_.size()); }
  [[nodiscard]] std::string& get() { return text_; }

 private:
  std::string text_;
};

Error os_error(const std::filesystem::path& path, const std::string& action, int number) {
  return {.code = number == ENOSPC ? ErrorCode::kDiskFull : ErrorCode::kIo,
          .what = action + " failed: " + std::generic_category().message(number),
          .where = path.string()};
}

Error refused(const std::filesystem::path& path, std::string what, std::string rule,
              std::string remedy) {
  return {.code = ErrorCode::kAuth,
          .what = std::move(what),
          .where = path.string(),
          .rule = std::move(rule),
          .remedy = std::move(remedy)};
}

Result<void> write_all(int file, std::string_view text, const std::filesystem::path& path) {
  while (!text.empty()) {
    const ssize_t n = ::write(file, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(os_error(path, "writing", errno));
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  if (::fsync(file) != 0) return fail(os_error(path, "writing", errno));
  return {};
}

Result<void> check_file(const struct stat& found, const std::filesystem::path& path) {
  if (!S_ISREG(found.st_mode))
    return fail(
        refused(path, "is no regular file", "a private key is a plain file of its own", ""));
  if (found.st_uid != ::geteuid()) {
    return fail(refused(path, "belongs to user " + std::to_string(found.st_uid),
                        "a private key belongs to the user who runs the program, here " +
                            std::to_string(::geteuid()),
                        "chown it, or run as its owner"));
  }
  if ((found.st_mode & 077u) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof mode, "%04o", static_cast<unsigned>(found.st_mode & 07777u));
    return fail(refused(path, std::string("has mode ") + mode,
                        "nobody but its owner may read a private key",
                        "run: chmod 600 " + path.string()));
  }
  if (found.st_size > kKeyBytesMax)
    return fail(refused(path, "is too large for a private key", "", ""));
  return {};
}

// An encrypted key must not make the library ask on the terminal.
int no_passphrase(char*, int, int, void*) { return 0; }

}  // namespace

KeyPtr make_key(KeyType type) {
  return KeyPtr(type == KeyType::kP256 ? EVP_EC_gen("P-256")
                                       : EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
}

Result<void> write_key(const EVP_PKEY& key, const std::filesystem::path& path) {
  const BioPtr bio(BIO_new(BIO_s_secmem()));
  if (!bio ||
      PEM_write_bio_PrivateKey(bio.get(), &key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return fail(
        {.code = ErrorCode::kInternal, .what = "a key cannot be written: " + drain_errors()});
  }
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  const Descriptor file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (file.get() < 0 && errno == EEXIST) {
    return fail({.code = ErrorCode::kFileExists,
                 .what = "is there already",
                 .where = path.string(),
                 .rule = "a private key is never replaced",
                 .remedy = "move it away, or choose another folder"});
  }
  if (file.get() < 0) return fail(os_error(path, "creating", errno));
  auto written = write_all(file.get(), {data, static_cast<std::size_t>(size)}, path);
  if (!written) ::unlink(path.c_str());
  return written;
}

Result<KeyPtr> read_key(const std::filesystem::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0 && errno == ENOENT) {
    return fail({.code = ErrorCode::kFileMissing,
                 .what = "no such file",
                 .where = path.string(),
                 .rule = "the private key is where `strata certs request` wrote it"});
  }
  if (file.get() < 0 && errno == ELOOP)
    return fail(refused(path, "is a link", "a private key is a plain file of its own",
                        "put the file itself there"));
  if (file.get() < 0) return fail(os_error(path, "opening", errno));
  struct stat found {};
  if (::fstat(file.get(), &found) != 0) return fail(os_error(path, "reading", errno));
  if (auto sound = check_file(found, path); !sound) return fail(std::move(sound).error());
  SecretText text(static_cast<std::size_t>(found.st_size));
  std::size_t filled = 0;
  while (filled < text.get().size()) {
    const ssize_t n = ::read(file.get(), text.get().data() + filled, text.get().size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(os_error(path, "reading", errno));
    if (n == 0) break;
    filled += static_cast<std::size_t>(n);
  }
  const BioPtr bio(BIO_new_mem_buf(text.get().data(), static_cast<int>(filled)));
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  (void)drain_errors();
  if (!key)
    return fail(refused(path, "holds no private key that can be read",
                        "keys are PEM without a passphrase", ""));
  if (auto type = check_key_type(*key, path.string()); !type) return fail(std::move(type).error());
  return key;
}

}  // namespace strata::certs
